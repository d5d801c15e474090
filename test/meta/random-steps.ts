/** Random operations on a volume, for the model test. */
import * as fc from 'fast-check';
import { CELLS_PER_CHUNK } from './reference-fs.ts';

/** What names are taken from; Latin-1. */
export const NAMES = ['a', 'b', '\xff', 'long'.repeat(60)];
const MAX_CELLS = 3 * CELLS_PER_CHUNK;

/** Numbers choose among the nodes and names there are, so that a shortened list of operations still means something. */
export type Step =
  | {
      readonly op: 'mkdir' | 'create' | 'tmpfile' | 'mknod' | 'symlink';
      readonly dir: number;
      readonly name: number;
      readonly mode: number;
    }
  | { readonly op: 'unlink' | 'rmdir'; readonly dir: number; readonly name: number }
  | { readonly op: 'link'; readonly node: number; readonly dir: number; readonly name: number }
  | {
      readonly op: 'rename';
      readonly dir: number;
      readonly name: number;
      readonly toDir: number;
      readonly toName: number;
      readonly flag: 'none' | 'noReplace' | 'exchange';
    }
  | {
      readonly op: 'setattr';
      readonly node: number;
      readonly mode?: number | undefined;
      readonly uid?: number | undefined;
      readonly mtime?: bigint | undefined;
    }
  | { readonly op: 'truncate'; readonly node: number; readonly cells: number }
  | {
      readonly op: 'fallocate';
      readonly node: number;
      readonly from: number;
      readonly count: number;
      readonly mode: 0 | 1 | 3 | 16 | 17;
    }
  | { readonly op: 'write'; readonly node: number; readonly from: number; readonly count: number }
  | {
      readonly op: 'copy';
      readonly node: number;
      readonly from: number;
      readonly toNode: number;
      readonly to: number;
      readonly count: number;
    }
  | { readonly op: 'compact'; readonly node: number; readonly chunk: number }
  | { readonly op: 'open' | 'release'; readonly node: number }
  | {
      readonly op: 'setxattr' | 'removexattr';
      readonly node: number;
      readonly name: number;
      readonly how: 'any' | 'create' | 'replace';
    };

const object = <T>(members: { readonly [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record<T>(members, { noNullPrototype: true });
// Mostly the same few, so that operations meet.
const pick = fc.oneof(fc.nat(3), fc.nat(30));
const anyName = fc.nat(NAMES.length - 1);
const mode = fc.constantFrom(0, 0o644, 0o755, 0o1777, 0o2755);
const optional = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(arbitrary, { nil: undefined });

export const anyStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 9,
    arbitrary: object({
      op: fc.constantFrom(
        'mkdir' as const,
        'mkdir' as const,
        'mkdir' as const,
        'create' as const,
        'create' as const,
        'tmpfile' as const,
        'mknod' as const,
        'symlink' as const,
      ),
      dir: pick,
      name: anyName,
      mode,
    }),
  },
  { weight: 3, arbitrary: object({ op: fc.constantFrom('unlink' as const, 'rmdir' as const), dir: pick, name: anyName }) },
  { weight: 2, arbitrary: object({ op: fc.constant('link' as const), node: pick, dir: pick, name: anyName }) },
  {
    weight: 10,
    arbitrary: object({
      op: fc.constant('rename' as const),
      dir: pick,
      name: anyName,
      toDir: pick,
      toName: anyName,
      flag: fc.constantFrom('none' as const, 'none' as const, 'noReplace' as const, 'exchange' as const),
    }),
  },
  {
    weight: 2,
    arbitrary: object({
      op: fc.constant('setattr' as const),
      node: pick,
      mode: optional(mode),
      uid: optional(fc.constantFrom(0, 7)),
      mtime: optional(fc.constantFrom(0n, 1_600_000_000_000_000_001n)),
    }),
  },
  { weight: 2, arbitrary: object({ op: fc.constant('truncate' as const), node: pick, cells: fc.nat(MAX_CELLS) }) },
  {
    weight: 2,
    arbitrary: object({
      op: fc.constant('fallocate' as const),
      node: pick,
      from: fc.nat(MAX_CELLS),
      count: fc.integer({ min: 1, max: 20 }),
      mode: fc.constantFrom(0 as const, 1 as const, 3 as const, 16 as const, 17 as const),
    }),
  },
  {
    weight: 5,
    arbitrary: object({
      op: fc.constant('write' as const),
      node: pick,
      from: fc.nat(MAX_CELLS - 1),
      count: fc.integer({ min: 1, max: CELLS_PER_CHUNK }),
    }),
  },
  {
    weight: 4,
    arbitrary: object({
      op: fc.constant('copy' as const),
      node: pick,
      from: fc.nat(MAX_CELLS),
      toNode: pick,
      to: fc.nat(MAX_CELLS),
      count: fc.integer({ min: 1, max: MAX_CELLS }),
    }),
  },
  { weight: 1, arbitrary: object({ op: fc.constant('compact' as const), node: pick, chunk: fc.nat(2) }) },
  { weight: 2, arbitrary: object({ op: fc.constantFrom('open' as const, 'release' as const), node: pick }) },
  {
    weight: 2,
    arbitrary: object({
      op: fc.constantFrom('setxattr' as const, 'removexattr' as const),
      node: pick,
      name: fc.nat(1),
      how: fc.constantFrom('any' as const, 'create' as const, 'replace' as const),
    }),
  },
);
