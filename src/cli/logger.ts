/** Remarks of a command to stderr, one readable line each: warnings and errors only. */
import { messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';

export function stderrLogger(fields: Readonly<Record<string, unknown>> = {}): Logger {
  const tell = (kind: string, message: string, more: Readonly<Record<string, unknown>> = {}): void => {
    const facts = Object.entries({ ...fields, ...more }).map(
      ([name, value]) => `${name}: ${value instanceof Error ? messageOf(value) : String(value)}`,
    );
    process.stderr.write(`juicepod: ${kind}: ${message}${facts.length > 0 ? ` (${facts.join(', ')})` : ''}\n`);
  };
  return {
    debug() {},
    info() {},
    warn: (message, more) => tell('warning', message, more),
    error: (message, more) => tell('error', message, more),
    child: (more) => stderrLogger({ ...fields, ...more }),
  };
}
