import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { conditionTypes, reasons } from './conditions.ts';
import { customResourceDefinition, fields, type Schema } from './crd.ts';
import { generatedFiles } from './generate.ts';
import { kinds } from './kinds.ts';

const root = resolve(import.meta.dirname, '..', '..');

function schemaOf(definition: Schema): Schema {
  const spec = definition['spec'] as { readonly versions: readonly { readonly schema: { readonly openAPIV3Schema: Schema } }[] };
  return spec.versions[0]?.schema.openAPIV3Schema ?? {};
}

test('the generated files that are checked in are current (npm run generate)', () => {
  for (const [path, text] of generatedFiles())
    assert.equal(readFileSync(join(root, path), 'utf8'), text, `${path} is out of date`);
  const definitions = readdirSync(join(root, 'crds')).filter((name) => name.endsWith('.yaml') && name !== 'kustomization.yaml');
  assert.deepEqual(
    definitions.map((name) => `crds/${name}`).toSorted(),
    [...generatedFiles().keys()].filter((path) => path.startsWith('crds/')).toSorted(),
  );
});

for (const kind of kinds) {
  test(`every field of ${kind.kind} has a description`, () => {
    const missing = [...fields(schemaOf(customResourceDefinition(kind)))]
      .filter(({ path, schema }) => path !== 'metadata' && !schema['description'])
      .map(({ path }) => path);
    assert.deepEqual(missing, []);
  });

  test(`the schema of ${kind.kind} is structural and bounded`, () => {
    for (const { path, schema } of fields(schemaOf(customResourceDefinition(kind)))) {
      const intOrString = schema['x-kubernetes-int-or-string'] === true;
      assert.ok(intOrString !== (typeof schema['type'] === 'string'), `${path}: a type, or int-or-string`);
      assert.ok(
        schema['properties'] === undefined || schema['additionalProperties'] === undefined,
        `${path}: closed and open at once`,
      );
      assert.ok(schema['oneOf'] === undefined && (intOrString || schema['anyOf'] === undefined), `${path}: anyOf`);
      if (schema['type'] === 'array') assert.ok(typeof schema['maxItems'] === 'number', `${path}: a list without maxItems`);
      if (schema['type'] === 'array')
        assert.ok(schema['x-kubernetes-list-type'] !== undefined, `${path}: a list without a list type`);
      if (path.startsWith('spec.') && schema['type'] === 'string' && !schema['enum'])
        assert.ok(typeof schema['maxLength'] === 'number', `${path}: a string without maxLength`);
    }
  });

  test(`an object of ${kind.kind} whose members all have defaults gets them from an empty one`, () => {
    for (const { path, schema, required } of fields(schemaOf(customResourceDefinition(kind)))) {
      // It is always there.
      if (required) continue;
      const properties = Object.values((schema['properties'] ?? {}) as Record<string, Schema>);
      const inner = properties.some((property) => property['default'] !== undefined);
      if (inner && path.startsWith('spec.') && schema['required'] === undefined && schema['default'] === undefined)
        assert.fail(`${path} has members with defaults but none of its own, so they never appear`);
    }
  });
}

/** What the program is made of, beside what declares the resources, and what only writes them. */
function sources(): string {
  const all = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' });
  return all
    .filter(
      (path) =>
        path.endsWith('.ts') &&
        !path.endsWith('.test.ts') &&
        !/^api\/(cachepolicy|conditions|kinds|volume[\w-]*)\.ts|^cli\/migrate\/|\/testing\//.test(path),
    )
    .map((path) => readFileSync(join(root, 'src', path), 'utf8'))
    .join('\n');
}

test('no field, condition or reason without a use: each is named where it is read or written', () => {
  const text = sources();
  const unused = kinds.flatMap((kind) =>
    [...fields(schemaOf(customResourceDefinition(kind)))]
      .filter(({ path }) => /^(spec|status)\./.test(path) && !/(\[\]|\.\*)$/.test(path))
      .filter(({ path }) => !new RegExp(`\\b${path.split('.').at(-1)?.replace('[]', '')}\\b`).test(text))
      .map(({ path }) => `${kind.kind} ${path}`),
  );
  assert.deepEqual(unused, []);
  const words = [...Object.keys(conditionTypes), ...Object.keys(reasons)];
  assert.deepEqual(
    words.filter((word) => !new RegExp(`\\b${word}\\b`).test(text)),
    [],
  );
});
