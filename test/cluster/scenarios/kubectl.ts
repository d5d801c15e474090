/** The cluster through kubectl, as a user has it: commands, waits with a deadline, and what to print when one fails. */
import { spawn } from 'node:child_process';

export interface Ran {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string | NodeJS.ReadableStream;
  /** @default 120 */
  readonly seconds?: number;
}

/** Runs kubectl; resolves whatever its status is. At most 64 MiB of output. */
export async function tryKubectl(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const child = spawn('kubectl', args, { stdio: ['pipe', 'pipe', 'pipe'], timeout: (options.seconds ?? 120) * 1000 });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8');
    child[name].on('data', (data: string) => {
      if (output[name].length < 1 << 26) output[name] += data;
    });
  }
  // A command that ends before it has read everything says why on standard error.
  child.stdin.on('error', () => undefined);
  if (options.input === undefined || typeof options.input === 'string') child.stdin.end(options.input);
  else options.input.pipe(child.stdin);
  const status = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (signal) output.stderr += `\nkubectl was ended by ${signal}: no answer within ${options.seconds ?? 120} s`;
      resolve(code ?? 1);
    });
  });
  return { status, ...output };
}

/** Runs kubectl and resolves with its standard output; rejects with what it said where it fails. */
export async function kubectl(args: readonly string[], options: RunOptions = {}): Promise<string> {
  const ran = await tryKubectl(args, options);
  if (ran.status !== 0) throw new Error(`kubectl ${args.join(' ')} ended with ${ran.status}: ${ran.stderr.trim()}`);
  return ran.stdout;
}

/** Applies objects server-side. */
export async function apply(...objects: readonly object[]): Promise<void> {
  const list = { apiVersion: 'v1', kind: 'List', items: objects };
  await kubectl(['apply', '--server-side', '--force-conflicts', '-f', '-'], { input: JSON.stringify(list) });
}

/** An object as the API server has it. */
export async function get<T>(namespace: string, kind: string, name: string): Promise<T> {
  return JSON.parse(await kubectl(['get', kind, name, `--namespace=${namespace}`, '--output=json'])) as T;
}

export const pause = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

/**
 * Waits until `probe` resolves with something true, asking four times a second; resolves with it. A probe that rejects is
 * asked again.
 *
 * @param what completes the sentence "gave up after N s waiting until …".
 */
export async function until<T>(what: string, seconds: number, probe: () => Promise<T | false | undefined>): Promise<T> {
  const deadline = Date.now() + seconds * 1000;
  let last: unknown;
  for (;;) {
    try {
      const value = await probe();
      if (value) return value;
      last = value;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) {
      const seen = last instanceof Error ? `: ${last.message}` : '';
      throw new Error(`gave up after ${seconds} s waiting until ${what}${seen}`);
    }
    await pause(250);
  }
}

/** Everything that explains a failure in these namespaces, on standard error. */
export async function explain(namespaces: readonly string[]): Promise<void> {
  const show = async (args: readonly string[]): Promise<void> => {
    const { stdout, stderr } = await tryKubectl(args, { seconds: 20 });
    process.stderr.write(`\n$ kubectl ${args.join(' ')}\n${(stdout + stderr).slice(-12_000)}`);
  };
  for (const namespace of namespaces) {
    const at = `--namespace=${namespace}`;
    await show(['get', 'juicevolumes,pods,jobs,deployments', at, '--output=wide']);
    await show(['get', 'events', at, '--sort-by=.lastTimestamp']);
    await show(['get', 'juicevolumes', at, '--output=yaml']);
    const { stdout } = await tryKubectl(['get', 'pods', at, '--output=name'], { seconds: 20 });
    for (const pod of stdout.split('\n').filter(Boolean)) {
      await show(['describe', at, pod]);
      await show(['logs', at, pod, '--all-containers', '--prefix', '--tail=60']);
      await show(['logs', at, pod, '--all-containers', '--prefix', '--tail=30', '--previous']);
    }
  }
}
