/** What tests of the metadata begin with. */
import { ROOT_INO } from '../../lib/int64.ts';
import { type Attr, NodeType } from '../types.ts';

/** An empty file in the root that root has made, everything else being nought. */
export const plainFile: Attr = {
  flags: 0,
  type: NodeType.File,
  mode: 0o644,
  uid: 0,
  gid: 0,
  atime: 0,
  atimensec: 0,
  mtime: 0,
  mtimensec: 0,
  ctime: 0,
  ctimensec: 0,
  nlink: 1,
  length: 0,
  rdev: 0,
  parent: ROOT_INO,
  accessAcl: 0,
  defaultAcl: 0,
  tier: 0,
};
