/** A process of processes.test.ts: `process-worker.ts <metadata URL> <label> <count>`. */
import { FsError } from '../../src/lib/errors.ts';
import { type Ino, ROOT_INO } from '../../src/lib/int64.ts';
import { openMeta } from '../../src/meta/open.ts';
import { CHUNK_SIZE, type Meta, NodeType, SYSTEM } from '../../src/meta/types.ts';

/** Appends 100 bytes behind whatever is there (no blocks), under a lock that all clients know: who makes the directory has it. */
async function append(meta: Meta, file: Ino): Promise<void> {
  const lock = Buffer.from('lock');
  const id = await meta.newSliceId();
  for (;;) {
    try {
      await meta.mkdir(SYSTEM, ROOT_INO, lock, 0o700, 0);
      break;
    } catch (error) {
      if (!(error instanceof FsError && error.code === 'EEXIST')) throw error;
    }
  }
  const { length } = await meta.getattr(SYSTEM, file);
  await meta.writeSlice(SYSTEM, file, Math.floor(length / CHUNK_SIZE), length % CHUNK_SIZE, { id, size: 100 }, 0n);
  await meta.rmdir(SYSTEM, ROOT_INO, lock);
}

const [url = '', label = '', count = '0'] = process.argv.slice(2);
const meta = await openMeta(url, { backgroundJobs: false });
await meta.newSession('/worker');
const common = await meta.create(SYSTEM, ROOT_INO, Buffer.from('common'), 0o644, 0, false);
for (let n = 0; n < Number(count); n++) {
  const made = Buffer.from(`${label} made ${n}`);
  await meta.mknod(SYSTEM, ROOT_INO, made, NodeType.File, 0o644, 0, 0);
  await meta.rename(SYSTEM, ROOT_INO, made, ROOT_INO, Buffer.from(`${label} moved ${n}`), 0);
  await meta.mkdir(SYSTEM, ROOT_INO, Buffer.from(`${label} directory ${n}`), 0o755, 0);
  await append(meta, common.ino);
  await meta.rmdir(SYSTEM, ROOT_INO, Buffer.from(`${label} directory ${n}`));
}
await meta.release(common.ino);
await meta.close();
process.disconnect?.();
