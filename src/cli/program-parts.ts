/** What the commands of several files are declared with. */
import { type Command, Option } from 'commander';
import { fail, type Output } from './report.ts';

/** `--output`; also `-o`, where that is no option of its own. */
export const output = (short: '-o, ' | '' = '-o, '): Option =>
  new Option(`${short}--output <form>`, 'how results are printed').choices(['text', 'json']).default('text');

/** What every action gets: positional arguments, then options. */
export type Action = (options: Record<string, unknown>, ...args: string[]) => Promise<void>;

/** Runs an action; what it throws is told as one sentence and ends the process with 1. */
export function run(action: Action): (...all: unknown[]) => Promise<void> {
  return async (...all) => {
    const command = all.at(-1) as Command;
    const options = all.at(-2) as Record<string, unknown>;
    try {
      await action(options, ...(all.slice(0, -2) as string[]));
    } catch (error) {
      fail(error, (command.opts()['output'] as Output | undefined) ?? 'text');
    }
  };
}

/** How an object store is reached. */
export function storage(command: Command): Command {
  return command
    .option('--storage <type>', 'object store: file, s3, minio, oss, cos, obs, gs, wasb, webdav, … (docs/stores.md)')
    .option('--bucket <url>', 'folder, or URL of the bucket: http(s)://host[:port]/bucket')
    .option('--access-key <key>', 'access key of the object store (or env ACCESS_KEY)')
    .option('--secret-key <key>', 'secret key of the object store (or env SECRET_KEY)')
    .option('--session-token <token>', 'session token of the object store (or env SESSION_TOKEN)');
}

/** How a command for people reaches a cluster. */
export function target(command: Command): Command {
  return command
    .option('-n, --namespace <name>', 'namespace (default: that of the context)')
    .option('--kubeconfig <file>', 'how the cluster is reached (default: KUBECONFIG, else ~/.kube/config)')
    .option('--context <name>', 'context of the kubeconfig')
    .option('--system <name>', 'namespace of operator and webhook', 'juicepod-system');
}

/** What every command's help has: a description, what META-URL is, and lines that fit a screen of 80 columns. */
export function explained(command: Command): Command {
  // Without [options], which every command has.
  const term = (each: Command): string =>
    [
      [each.name(), ...each.aliases()].join('|'),
      ...each.registeredArguments.map((argument) => {
        const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
        return argument.required ? `<${name}>` : `[${name}]`;
      }),
    ].join(' ');
  command.configureHelp({ minWidthToWrap: 20, subcommandTerm: term });
  if (command.description() === '' && command.summary() !== '') {
    const summary = command.summary();
    command.description(`${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`);
  }
  for (const argument of command.registeredArguments)
    if (argument.name() === 'META-URL' && argument.description === '')
      argument.description =
        'database of the volume: redis://[user@]host[:6379]/db, rediss://… or sqlite3://path; its password in META_PASSWORD';
  for (const child of command.commands) explained(child);
  return command;
}
