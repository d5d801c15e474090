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

/** What `log` is told while `speaks`; the rest is dropped. */
export function heardWhile(log: Logger, speaks: () => boolean): Logger {
  return {
    debug: (...line) => void (speaks() && log.debug(...line)),
    info: (...line) => void (speaks() && log.info(...line)),
    warn: (...line) => void (speaks() && log.warn(...line)),
    error: (...line) => void (speaks() && log.error(...line)),
    child: (fields) => heardWhile(log.child(fields), speaks),
  };
}
