/**
 * The C library, for the few calls that Node does not offer, loaded with the first of them: programs that make none do not pay for it.
 * Linux only. errno is that of the last call, until the next one.
 */
import { createRequire } from 'node:module';
import type koffiTypes from 'koffi';

export interface Libc {
  readonly koffi: typeof koffiTypes;
  readonly program: ReturnType<typeof koffiTypes.load>;
}

let loaded: Libc | undefined | null = null;

/** Undefined where it cannot be had: another system, or no binding for it. */
export function libc(): Libc | undefined {
  if (loaded === null) loaded = load();
  return loaded;
}

function load(): Libc | undefined {
  if (process.platform !== 'linux') return undefined;
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof koffiTypes;
    return { koffi, program: koffi.load(null) };
  } catch {
    return undefined;
  }
}
