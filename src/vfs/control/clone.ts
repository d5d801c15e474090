/** `clone` (1006): copies a file or tree that shares its data. Progress: nodes made, nodes in all. Source: JuiceFS format, control protocol. */
import { type Call, inside, requireWritable } from './call.ts';
import { CLONE_PRESERVE, errnoItem } from './protocol.ts';

const DEFAULT_THREADS = 4;

export async function cloneTree(call: Call): Promise<Buffer> {
  const { host, ctx, payload, progress } = call;
  requireWritable(call);
  const source = await inside(call, payload.ino());
  await inside(call, payload.ino());
  const parent = await inside(call, payload.ino());
  const name = payload.bytes(payload.u8());
  const umask = payload.u16();
  const preserve = (payload.u8() & CLONE_PRESERVE) !== 0;
  const threads = (payload.more && payload.u8()) || DEFAULT_THREADS;
  // Files that are being written here are copied with what was written.
  await host.commitAll();
  await host.meta.clone(ctx, source, parent, Buffer.from(name), {
    preserve,
    umask,
    threads,
    onTotal: (inodes) => void (progress.second = inodes),
    onCloned: (inodes) => void (progress.first += inodes),
    signal: ctx.signal,
  });
  host.nameChanged(parent, name);
  return errnoItem(0);
}
