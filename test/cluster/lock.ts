/**
 * A lock between processes: one of them builds, the others wait and find it built. It is `flock` on a file, held by a child
 * that ends when its standard input does, so the death of the holder, however it comes, lets the lock go.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Runs `work` while holding the lock `file` (made where it is not there, left behind empty).
 *
 * @param waiting called once when somebody else holds the lock, before the wait. The wait has no bound of its own: it ends
 *   when the other's work does.
 */
export async function withLock<T>(file: string, waiting: () => void, work: () => Promise<T>): Promise<T> {
  mkdirSync(dirname(file), { recursive: true });
  const script = 'flock --nonblock 9 || { echo waiting; flock 9; }; echo held; exec cat > /dev/null';
  const holder = spawn('sh', ['-c', `exec 9> "$1"; ${script}`, 'lock', file], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(holder, 'exit');
  try {
    let output = '';
    for await (const data of holder.stdout) {
      const before = output;
      output += String(data);
      if (!before.includes('waiting') && output.includes('waiting')) waiting();
      if (output.includes('held')) break;
    }
    if (!output.includes('held')) throw new Error(`cannot lock ${file}: flock (util-linux) ended without taking the lock`);
    return await work();
  } finally {
    holder.stdin.end();
    await ended;
  }
}
