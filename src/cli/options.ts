/** Values of options that several commands read. */
import { readFileSync } from 'node:fs';
import { messageOf, UserError } from '../lib/errors.ts';

/** A number between bounds. Throws UserError `InvalidNumber` naming the option. */
export function numberOf(text: string, option: string, min: number, max: number): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= min && value <= max))
    throw new UserError('InvalidNumber', `${option}: wanted a number from ${min} to ${max}, found ${JSON.stringify(text)}`);
  return value;
}

/** A whole number between bounds. Throws UserError `InvalidNumber` naming the option. */
export function wholeNumberOf(text: string, option: string, min: number, max: number): number {
  const value = numberOf(text, option, min, max);
  if (!Number.isInteger(value))
    throw new UserError('InvalidNumber', `${option}: wanted a whole number, found ${JSON.stringify(text)}`);
  return value;
}

/** A switch: alone, or with `=true` or `=false`. Throws UserError `InvalidOption` naming the option. */
export function booleanOf(value: string | boolean, option: string): boolean {
  if (typeof value === 'boolean') return value;
  if (value === 'true' || value === 'false') return value === 'true';
  throw new UserError('InvalidOption', `${option}: wanted ${option} or ${option}=false, found ${JSON.stringify(value)}`);
}

/** The text of a file that an option names; `-` is standard input. Throws UserError `FileUnreadable` naming the option. */
export function readText(path: string, option: string): string {
  try {
    return readFileSync(path === '-' ? 0 : path, 'utf8');
  } catch (error) {
    throw new UserError('FileUnreadable', `${option}: ${path} cannot be read: ${messageOf(error)}`);
  }
}

/** A TCP port; 0 takes a free one. */
export function portOf(text: string, option: string): number {
  return wholeNumberOf(text, option, 0, 65_535);
}

/** Aborted by SIGTERM or SIGINT. */
export function endingSignal(): AbortSignal {
  const ending = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => ending.abort());
  return ending.signal;
}

/** Names of namespaces, separated by commas; undefined for all. Throws UserError `InvalidNamespaces`. */
export function namespacesOf(text: string | undefined, option: string): readonly string[] | undefined {
  if (text === undefined) return undefined;
  const names = [...new Set(text.split(',').map((name) => name.trim()))];
  const wrong = names.find((name) => name.length > 63 || !/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(name));
  if (wrong !== undefined)
    throw new UserError(
      'InvalidNamespaces',
      `${option}: wanted names of namespaces, separated by commas; found ${JSON.stringify(wrong)}`,
    );
  return names;
}
