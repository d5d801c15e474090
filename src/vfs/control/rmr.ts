/** `rmr` (1002): removes a name and all below it. Progress: names removed. Source: JuiceFS format, control protocol. */
import { FsError } from '../../lib/errors.ts';
import { type Call, inside, requireWritable } from './call.ts';
import { errnoItem } from './protocol.ts';

const DEFAULT_THREADS = 50;
const SKIP_TRASH = 1;

export async function removeTree(call: Call): Promise<Buffer> {
  const { host, ctx, payload, progress } = call;
  requireWritable(call);
  const parent = await inside(call, payload.ino());
  const name = payload.bytes(payload.u8());
  const skipTrash = payload.more && (payload.u8() & SKIP_TRASH) !== 0;
  const threads = (payload.more && payload.u8()) || DEFAULT_THREADS;
  if (name.length === 0) throw new FsError('ENOENT');
  if (skipTrash && ctx.uid !== 0) throw new FsError('EPERM', 'only root may leave out the trash');
  try {
    await host.meta.removeTree(ctx, parent, name, {
      skipTrash,
      threads,
      onRemoved: () => void progress.first++,
      signal: ctx.signal,
    });
  } finally {
    host.nameChanged(parent, name);
  }
  return errnoItem(0);
}
