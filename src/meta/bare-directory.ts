/** A directory as the volume itself makes them: root, trash root, and the hours of the trash; root's, and empty. */
import { type Ino, ROOT_INO } from '../lib/int64.ts';
import { type Attr, NodeType } from './types.ts';

/** Attributes of such a directory, all its times alike. `parent` is the root for both roots. */
export function bareDirectory(
  mode: number,
  { sec, nsec }: { readonly sec: number; readonly nsec: number },
  parent: Ino = ROOT_INO,
): Attr {
  return {
    flags: 0,
    type: NodeType.Directory,
    mode,
    uid: 0,
    gid: 0,
    atime: sec,
    atimensec: nsec,
    mtime: sec,
    mtimensec: nsec,
    ctime: sec,
    ctimensec: nsec,
    nlink: 2,
    length: 4096,
    rdev: 0,
    parent,
    accessAcl: 0,
    defaultAcl: 0,
    tier: 0,
  };
}
