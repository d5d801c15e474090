/**
 * Writes files into the folder it is given and tells the name of each that is synced, a line each, until its standard input
 * ends; `failed` and why where a call fails. A process of its own: one that starts others while its files wait for a database
 * would wait with them.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';

const folder = process.argv[2] ?? '.';
const state = { stopped: false };
process.stdin.on('end', () => (state.stopped = true)).resume();

async function write(writer: number): Promise<void> {
  for (let n = 0; !state.stopped; n++) {
    const file = `${writer}-${n}`;
    const handle = await open(join(folder, file), 'wx');
    await handle.writeFile(`${file} `.repeat(50));
    await handle.sync();
    await handle.close();
    process.stdout.write(`${file}\n`);
  }
}

try {
  await Promise.all([write(1), write(2), write(3)]);
} catch (error) {
  process.stdout.write(`failed: ${String(error)}\n`);
}
