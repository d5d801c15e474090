/**
 * Logging, behind a port. A line is a constant message plus fields; secrets are never passed in. The control plane and
 * the life of a mount are logged; no I/O is. The sink of the control plane is winston (winston.ts); it stands apart, because
 * loading it costs 17 MiB of resident memory, which the client of a pod does not spend.
 */
export interface Logger {
  debug(message: string, fields?: Readonly<Record<string, unknown>>): void;
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** A logger whose lines all carry these fields. */
  child(fields: Readonly<Record<string, unknown>>): Logger;
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** Drops everything; the default in tests and libraries. */
export const nullLogger: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => nullLogger };

/** Lines that are held back at most; later ones are dropped. */
const MOST_HELD = 100;

/**
 * A logger whose lines reach `log` when `release` is called, and at once from then on: for what is only worth telling where something
 * succeeds.
 */
export function heldBack(log: Logger): { readonly logger: Logger; readonly release: () => void } {
  let held: (() => void)[] | undefined = [];
  const over = (to: Logger): Logger => {
    const tell = (say: () => void): void => {
      if (!held) say();
      else if (held.length < MOST_HELD) held.push(say);
    };
    return {
      debug: (...line) => tell(() => to.debug(...line)),
      info: (...line) => tell(() => to.info(...line)),
      warn: (...line) => tell(() => to.warn(...line)),
      error: (...line) => tell(() => to.error(...line)),
      child: (fields) => over(to.child(fields)),
    };
  };
  return {
    logger: over(log),
    release() {
      const lines = held ?? [];
      held = undefined;
      for (const say of lines) say();
    },
  };
}
