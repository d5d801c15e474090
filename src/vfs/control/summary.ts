/** `summary` (1007): the largest parts of a tree. Progress: nodes and bytes counted. Source: JuiceFS format, control protocol. */
import { toErrno } from '../../lib/errors.ts';
import { NodeType, type TreeSummary } from '../../meta/types.ts';
import { type Call, counting, inside } from './call.ts';
import { exact } from './exact.ts';
import { dataItem } from './protocol.ts';

const DEFAULT_DEPTH = 3;
const DEFAULT_ENTRIES = 10;

function shown({ ino, path, type, size, files, dirs, children }: TreeSummary): object {
  return {
    Inode: exact(ino),
    Path: path,
    Type: type,
    Size: size,
    Files: files,
    Dirs: dirs,
    ...(children && children.length > 0 ? { Children: children.map(shown) } : {}),
  };
}

export async function treeSummary(call: Call): Promise<Buffer> {
  const { host, ctx, payload } = call;
  const asked = payload.ino();
  const depth = payload.more ? payload.u8() : DEFAULT_DEPTH;
  const entries = payload.more ? payload.u8() : DEFAULT_ENTRIES;
  const strict = payload.more && payload.u8() !== 0;
  try {
    const ino = await inside(call, asked);
    const tree = await host.meta.summarizeTree(ino, {
      depth,
      entries,
      strict,
      onCounted: counting(call),
      signal: ctx.signal,
    });
    return dataItem({ Errno: 0, Tree: shown(tree) });
  } catch (error) {
    const nothing: TreeSummary = { ino: asked, path: '', type: NodeType.Directory, size: 0, files: 0, dirs: 0, length: 0 };
    return dataItem({ Errno: toErrno(error), Tree: shown(nothing) });
  }
}
