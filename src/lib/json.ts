/**
 * Values of JSON that came from elsewhere, read without knowing their shape. Reading does not throw: what has the wrong shape is
 * taken as absent.
 */

export type Json = Readonly<Record<string, unknown>>;

/** A map, or an empty one for anything else. */
export function mapOf(value: unknown): Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : {};
}

/** A list, or an empty one for anything else. */
export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** A text, or undefined for anything else. */
export function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
