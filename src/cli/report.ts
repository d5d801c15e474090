/** What commands print: results to stdout, for people or as JSON; errors as one sentence and the next step, to stderr. */
import { messageOf, UserError } from '../lib/errors.ts';
import { endProcess } from '../lib/stuck.ts';

export type Output = 'text' | 'json';

/** Prints a result: `text` for people, else the value as JSON. */
export function print(output: Output, value: unknown, text: string): void {
  process.stdout.write(output === 'json' ? `${JSON.stringify(value, undefined, 2)}\n` : text.endsWith('\n') ? text : `${text}\n`);
}

/** What went wrong and, on a line of its own, the next step. */
export function explain(error: unknown): string {
  return `juicepod: ${messageOf(error)}\n${error instanceof UserError && error.hint ? `  ${error.hint}\n` : ''}`;
}

/** What a shell says of a program that SIGINT has ended. */
const INTERRUPTED = 130;

/** Says what went wrong, and ends the process with 1, or 130 where somebody interrupted it. A defect of ours shows where it happened. */
export function fail(error: unknown, output: Output = 'text'): never {
  const user = error instanceof UserError;
  if (output === 'json') {
    const shown = {
      error: {
        code: user ? error.code : 'Unexpected',
        message: messageOf(error),
        ...(user && error.hint ? { hint: error.hint } : {}),
      },
    };
    process.stderr.write(`${JSON.stringify(shown)}\n`);
  } else {
    process.stderr.write(explain(error));
    if (!user && error instanceof Error && process.env['JUICEPOD_DEBUG']) process.stderr.write(`${error.stack ?? ''}\n`);
  }
  endProcess(user && error.code === 'Interrupted' ? INTERRUPTED : 1);
}

/**
 * A line for people, broken between words where a terminal would break it anywhere, the rest behind `indent`. Where nobody looks (a pipe, a
 * file) it stays one line, for whoever searches. Words longer than the screen are left to it.
 */
export function wrapped(
  line: string,
  indent: string,
  stream: Pick<NodeJS.WriteStream, 'isTTY' | 'columns'> = process.stdout,
): string {
  const width = stream.isTTY ? stream.columns : undefined;
  if (width === undefined || width < 20) return `${line}\n`;
  const lines: string[] = [];
  let rest = line;
  while (rest.length > width) {
    const at = rest.lastIndexOf(' ', width);
    // No space behind the indent: the word is longer than the screen.
    const cut = rest.slice(0, Math.max(at, 0)).trim() === '' ? rest.indexOf(' ', width) : at;
    if (cut < 0) break;
    lines.push(rest.slice(0, cut));
    rest = `${indent}${rest.slice(cut + 1)}`;
  }
  return `${[...lines, rest].join('\n')}\n`;
}

/** Two columns, the first as wide as its longest word. */
export function table(rows: readonly (readonly [string, string | number])[]): string {
  const width = Math.max(0, ...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}\n`).join('');
}

/** Any number of columns, each as wide as its widest word. */
export function columns(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) for (const [at, text] of row.entries()) widths[at] = Math.max(widths[at] ?? 0, text.length);
  return rows
    .map(
      (row) =>
        `${row
          .map((text, at) => text.padEnd(widths[at] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}
