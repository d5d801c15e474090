/**
 * Building blocks of the schemas. A kind is declared once, in zod: TypeScript type, defaults, structural schema, CEL rules and
 * the reference page all come from that declaration. A rule states the same sentence twice, in CEL for the API server and in
 * TypeScript for files that never pass an API server (`juicepod inject`, `juicepod play`), and stands in one place.
 */
import { z } from 'zod';
import { DURATION_PATTERN, parseDuration, parseQuantity, QUANTITY_PATTERN } from './units.ts';

export interface Rule<T> {
  /** CEL over `self` (and `oldSelf` for transitions). */
  readonly cel: string;
  /** What is wanted, as one sentence. */
  readonly message: string;
  /** The same in TypeScript; a transition has none, a file has no past. */
  readonly holds?: (value: T) => boolean;
}

/** Everything below is readonly: resources are read, never changed in place. */
export type DeepReadonly<T> = T extends (infer E)[]
  ? readonly DeepReadonly<E>[]
  : T extends object
    ? { readonly [K in keyof T]: DeepReadonly<T[K]> }
    : T;

export const VALIDATIONS = 'x-kubernetes-validations';

/** Adds a description, rules and further schema members (`x-kubernetes-…`) to a schema. */
export function declare<S extends z.ZodType>(
  schema: S,
  description: string,
  rules: readonly Rule<z.output<S>>[] = [],
  members: Readonly<Record<string, unknown>> = {},
): S {
  let result = schema;
  for (const { holds, message } of rules)
    if (holds) result = result.refine((value) => holds(value), { error: message, abort: true });
  const validations = rules.map(({ cel, message }) => ({ rule: cel, message }));
  return result.meta({ description, ...members, ...(validations.length > 0 ? { [VALIDATIONS]: validations } : {}) });
}

export const immutable: Rule<unknown> = { cel: 'self == oldSelf', message: 'the field is immutable' };

/** On the parent of an optional immutable field: it can neither appear nor vanish. */
export function fixedPresence(field: string): Rule<unknown> {
  return { cel: `has(self.${field}) == has(oldSelf.${field})`, message: `${field} can neither be added nor removed later` };
}

/** Exactly one of several members. */
export function exactlyOne<T extends object>(...fields: (keyof T & string)[]): Rule<T> {
  return {
    cel: `[${fields.map((field) => `has(self.${field})`).join(', ')}].exists_one(x, x)`,
    message: `exactly one of ${fields.join(', ')} is needed`,
    holds: (value) => fields.filter((field) => value[field] !== undefined).length === 1,
  };
}

/** `wanted`: the pattern in words, for files that never pass an API server. */
export function text(
  description: string,
  limits: { min?: number; max: number; pattern?: string; wanted?: string },
  rules: readonly Rule<string>[] = [],
) {
  let schema = z.string().max(limits.max);
  if (limits.min !== undefined) schema = schema.min(limits.min);
  if (limits.pattern !== undefined) schema = schema.regex(new RegExp(limits.pattern), limits.wanted);
  return declare(schema, description, rules);
}

export function choice<const V extends readonly [string, ...string[]]>(
  description: string,
  values: V,
  rules: readonly Rule<unknown>[] = [],
) {
  return declare(z.enum(values), description, rules);
}

function isQuantity(value: string | number): boolean {
  try {
    return parseQuantity(value) >= 0;
  } catch {
    return false;
  }
}

/** A size in bytes, between `min` and `max` (themselves quantities). */
export function quantity(description: string, min: string, max: string, rules: readonly Rule<string | number>[] = []) {
  const range: Rule<string | number> = {
    cel: `quantity(string(self)).compareTo(quantity('${min}')) >= 0 && quantity(string(self)).compareTo(quantity('${max}')) <= 0`,
    message: `the size must be between ${min} and ${max}`,
    holds: (value) =>
      isQuantity(value) && parseQuantity(value) >= parseQuantity(min) && parseQuantity(value) <= parseQuantity(max),
  };
  return declare(
    z.union([z.int().min(0), z.string().max(32).regex(new RegExp(QUANTITY_PATTERN))]),
    description,
    [range, ...rules],
    {
      'x-kubernetes-int-or-string': true,
      pattern: QUANTITY_PATTERN,
    },
  );
}

/** A quantity that is handed on to Kubernetes as it is (a container's resources). */
export const anyQuantity = (description: string) =>
  declare(z.union([z.number(), z.string().max(32)]), description, [], {
    'x-kubernetes-int-or-string': true,
    pattern:
      '^(\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))))?$',
  });

/** A duration of at most `max`. */
export function duration(description: string, max: string, rules: readonly Rule<string>[] = []) {
  const range: Rule<string> = {
    cel: `duration(self) <= duration('${max}')`,
    message: `the duration must be at most ${max}`,
    holds: (value) => parseDuration(value) <= parseDuration(max),
  };
  return declare(z.string().max(24).regex(new RegExp(DURATION_PATTERN)), description, [range, ...rules]);
}

/** An object; members that are not declared are refused in files and pruned by the API server. */
export function object<const Shape extends z.ZodRawShape>(
  description: string,
  shape: Shape,
  rules: readonly Rule<z.output<z.ZodObject<Shape, z.core.$strict>>>[] = [],
  members: Readonly<Record<string, unknown>> = {},
) {
  return declare(z.strictObject(shape), description, rules, members);
}

/** A path on a machine. */
export const ABSOLUTE_PATH = '^/[^\\0]*$';

/** The name of an object of the same namespace. */
export const objectName = (description: string) =>
  text(description, { min: 1, max: 253, pattern: '^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$' });

/** A key inside a Secret. */
export const secretKey = (description: string) => text(description, { min: 1, max: 253, pattern: '^[-._a-zA-Z0-9]+$' });
