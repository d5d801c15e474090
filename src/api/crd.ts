/**
 * A custom resource definition from a kind: zod → JSON Schema → structural schema (what the API server accepts: no
 * additionalProperties beside properties, no anyOf except for int-or-string).
 */
import { z } from 'zod';
import { API_VERSION, CATEGORY, GROUP, VERSION } from './group.ts';
import type { Kind } from './kinds.ts';
import { VALIDATIONS } from './schema.ts';

export type Schema = { [member: string]: unknown };

const INT_OR_STRING = 'x-kubernetes-int-or-string';

function structural(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(structural);
  if (typeof node !== 'object' || node === null) return node;
  const result: Schema = {};
  for (const [key, value] of Object.entries(node as Schema)) result[key] = key === 'default' ? value : structural(value);
  if (result[INT_OR_STRING] === true) {
    result['anyOf'] = [{ type: 'integer' }, { type: 'string' }];
    delete result['type'];
  }
  if (result['type'] === 'object' && result['properties'] !== undefined) delete result['additionalProperties'];
  if (result['type'] === 'integer') {
    if (result['minimum'] === Number.MIN_SAFE_INTEGER) delete result['minimum'];
    if (result['maximum'] === Number.MAX_SAFE_INTEGER) delete result['maximum'];
    result['format'] = 'int64';
  }
  return result;
}

/** The structural schema of one part of a kind. */
export function structuralSchema(schema: z.ZodType): Schema {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { target: 'openapi-3.0', io: 'input' }) as Schema;
  return structural(json) as Schema;
}

/** The whole definition, ready for YAML. */
export function customResourceDefinition(kind: Kind): Schema {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      name: `${kind.plural}.${GROUP}`,
      labels: { 'app.kubernetes.io/name': 'juicepod', 'app.kubernetes.io/part-of': 'juicepod' },
    },
    spec: {
      group: GROUP,
      scope: 'Namespaced',
      names: {
        kind: kind.kind,
        listKind: `${kind.kind}List`,
        plural: kind.plural,
        singular: kind.singular,
        shortNames: kind.shortNames,
        categories: [CATEGORY],
      },
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: kind.columns.map(({ wide, ...column }) => ({ ...column, ...(wide ? { priority: 1 } : {}) })),
          ...(kind.selectableFields.length > 0
            ? { selectableFields: kind.selectableFields.map((jsonPath) => ({ jsonPath })) }
            : {}),
          schema: {
            openAPIV3Schema: {
              description: kind.description,
              type: 'object',
              required: ['spec'],
              properties: {
                apiVersion: { type: 'string', description: `The version of this form of the object: ${API_VERSION}.` },
                kind: { type: 'string', description: `The kind of the object: ${kind.kind}.` },
                // The API server allows no more to be said of it.
                metadata: { type: 'object' },
                spec: structuralSchema(kind.spec),
                // Without it kstatus takes an object that nobody has looked at yet for one that is as it should be.
                status: { ...structuralSchema(kind.status), default: { observedGeneration: -1 } },
              },
              ...(kind.rules.length > 0 ? { [VALIDATIONS]: kind.rules.map(({ cel, message }) => ({ rule: cel, message })) } : {}),
            },
          },
        },
      ],
    },
  };
}

/** Every field of a schema with its path, in order. */
export function* fields(
  schema: Schema,
  path = '',
): Generator<{ readonly path: string; readonly schema: Schema; readonly required: boolean }> {
  const required = (schema['required'] ?? []) as readonly string[];
  for (const [name, child] of Object.entries((schema['properties'] ?? {}) as Record<string, Schema>)) {
    const here = path === '' ? name : `${path}.${name}`;
    yield { path: here, schema: child, required: required.includes(name) };
    yield* fields(child, here);
  }
  const items = (schema['items'] ?? schema['additionalProperties']) as Schema | undefined;
  if (items && typeof items === 'object') {
    const here = schema['items'] ? `${path}[]` : `${path}.*`;
    yield { path: here, schema: items, required: false };
    yield* fields(items, here);
  }
}
