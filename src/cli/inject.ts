/** `juicepod inject`: what the webhook would add, offline. */
import { readFileSync } from 'node:fs';
import { injectFile } from '../admission/index.ts';
import { messageOf, UserError } from '../lib/errors.ts';
import { type Output, print } from './report.ts';

interface InjectCommand {
  readonly filename: readonly string[];
  readonly image?: string;
  readonly diff?: boolean;
  readonly output: Output;
}

function read(path: string): string {
  try {
    return readFileSync(path === '-' ? 0 : path, 'utf8');
  } catch (error) {
    throw new UserError('FileUnreadable', `${path}: ${messageOf(error)}`);
  }
}

export async function injectCommand(raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as InjectCommand;
  const text = options.filename.map(read).join('\n---\n');
  const result = injectFile(text, {
    fileName: options.filename.join(' '),
    ...(options.image ? { settings: { image: options.image } } : {}),
  });
  for (const { kind, namespace, name, action, message, warnings } of result.reasons) {
    process.stderr.write(`${kind} ${namespace}/${name}: ${action}: ${message}\n`);
    for (const warning of warnings) process.stderr.write(`  warning: ${warning}\n`);
  }
  print(options.output, result, options.diff ? result.diff || '(nothing would be added)' : result.text);
  if (result.reasons.some(({ action }) => action === 'refuse')) process.exitCode = 1;
}
