/**
 * A benchmark that Ctrl-C ends in order. The terminal sends SIGINT to every process of its group, so the servers would be gone before
 * the mounts that need them; therefore the benchmark runs in a process group of its own, and only it is told.
 */
import { spawn } from 'node:child_process';

const MARK = 'JUICEPOD_BENCH_GROUP';

/**
 * Runs `main` in a process group of its own and ends with its exit code. `main` is told of SIGINT and SIGTERM by the signal: it ends
 * what it is at, and what it started.
 */
export async function inOwnGroup(main: (interrupted: AbortSignal) => Promise<void>): Promise<void> {
  const signals = ['SIGINT', 'SIGTERM'] as const;
  if (process.env[MARK]) {
    delete process.env[MARK];
    const abort = new AbortController();
    for (const signal of signals) process.once(signal, () => abort.abort(new Error(`ended by ${signal}`)));
    // Whoever forwards signals may be killed: nobody else would end this.
    process.once('disconnect', () => abort.abort(new Error('ended with the process that started it')));
    try {
      await main(abort.signal);
    } catch (error) {
      if (!abort.signal.aborted) throw error;
      console.error(String(abort.signal.reason));
      process.exitCode = 130;
    }
    if (process.connected) process.disconnect();
    return;
  }
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    detached: true,
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, [MARK]: '1' },
  });
  for (const signal of signals) process.on(signal, () => child.kill(signal));
  process.exitCode = await new Promise<number>((done, fail) => {
    child.once('error', fail);
    child.once('exit', (code) => done(code ?? 1));
  });
}
