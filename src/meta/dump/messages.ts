/**
 * The messages of a binary dump, and what they are as records.
 *
 * A dump is a row of segments: type u32 and length u64 (big-endian), then a message: `Format` (the setting as JSON) or `Batch`, a list of
 * one kind of record. Behind the last segment come MAGIC as u32, a footer message (magic, version, and for each kind the number of its
 * records and where its segments begin), and the footer's length as u64.
 *
 * Source: the JuiceFS format, binary dump (pkg/meta/backup.go, pkg/meta/pb/backup.proto of 1.4.1).
 */
import type { Ino } from '../../lib/int64.ts';
import type { Batch, RecordKind, RecordOf } from '../bulk.ts';
import { decodeAttr, encodeAttr } from '../records.ts';
import type { NodeType } from '../types.ts';
import { quotaTypes } from '../quota.ts';
import type { Message, Schema } from './protobuf.ts';

export const MAGIC = 0x747083;
export const VERSION = 1;
export const FORMAT_SEGMENT = 1;

export const formatSchema: Schema = [['data', 'bytes']];
export const footerSchema: Schema = [
  ['magic', 'u64'],
  ['version', 'u64'],
];

/** A kind of record in a dump: number and name of its segments, its field in a batch, the name of that, and its message. */
export interface Segment {
  readonly type: number;
  readonly name: string;
  readonly field: number;
  readonly list: string;
  readonly schema: Schema;
  readonly kind: RecordKind;
}

const quotaSchema: Schema = [
  ['key', 'ino'],
  ['maxSpace', 'i64'],
  ['maxInodes', 'i64'],
  ['usedSpace', 'i64'],
  ['usedInodes', 'i64'],
  ['type', 'u64'],
];

const segment = (type: number, name: string, field: number, list: string, kind: RecordKind, schema: Schema): Segment => ({
  type,
  name,
  field,
  list,
  schema,
  kind,
});

/** Fields of a batch. Quotas of directories, users and groups are three fields of segments of one type. */
export const segments: readonly Segment[] = [
  segment(2, 'counter', 13, 'counters', 'counter', [
    ['key', 'string'],
    ['value', 'i64'],
  ]),
  segment(3, 'node', 1, 'nodes', 'node', [
    ['inode', 'ino'],
    ['data', 'bytes'],
  ]),
  segment(4, 'edge', 2, 'edges', 'entry', [
    ['parent', 'ino'],
    ['inode', 'ino'],
    ['name', 'bytes'],
    ['type', 'u64'],
  ]),
  segment(5, 'chunk', 3, 'chunks', 'chunk', [
    ['inode', 'ino'],
    ['index', 'u64'],
    ['slices', 'bytes'],
  ]),
  segment(6, 'sliceRef', 4, 'sliceRefs', 'sliceRef', [
    ['id', 'u64'],
    ['size', 'u64'],
    ['refs', 'i64'],
  ]),
  segment(7, 'symlink', 7, 'symlinks', 'symlink', [
    ['inode', 'ino'],
    ['target', 'bytes'],
  ]),
  segment(8, 'sustained', 8, 'sustained', 'sustained', [
    ['sid', 'u64'],
    ['inodes', 'inos'],
  ]),
  segment(9, 'delFile', 9, 'delfiles', 'delfile', [
    ['inode', 'ino'],
    ['length', 'u64'],
    ['expire', 'i64'],
  ]),
  segment(10, 'xattr', 5, 'xattrs', 'xattr', [
    ['inode', 'ino'],
    ['name', 'string'],
    ['value', 'bytes'],
  ]),
  segment(11, 'acl', 12, 'acls', 'acl', [
    ['id', 'u64'],
    ['data', 'bytes'],
  ]),
  segment(12, 'stat', 10, 'dirstats', 'dirStat', [
    ['inode', 'ino'],
    ['dataLength', 'i64'],
    ['usedSpace', 'i64'],
    ['usedInodes', 'i64'],
  ]),
  segment(13, 'quota', 11, 'quotas', 'quota', quotaSchema),
  segment(13, 'quota', 15, 'userQuotas', 'quota', quotaSchema),
  segment(13, 'quota', 16, 'groupQuotas', 'quota', quotaSchema),
  segment(14, 'parent', 6, 'parents', 'parent', [
    ['inode', 'ino'],
    ['parent', 'ino'],
    ['cnt', 'i64'],
  ]),
];

export const segmentNames = new Map([
  [FORMAT_SEGMENT, 'format'],
  ...segments.map(({ type, name }) => [type, name] as const),
  [15, 'changeLog'] as const,
]);

const segmentOf = new Map(
  segments.filter(({ list }) => list !== 'userQuotas' && list !== 'groupQuotas').map((each) => [each.kind, each]),
);
const quotaSegments = { directory: 11, user: 15, group: 16 } as const;

/** The messages of a batch, each with its segment. */
export function* messagesOf(batch: Batch): Generator<readonly [Segment, Message]> {
  const own = segmentOf.get(batch.kind) as Segment;
  const of = (field: number): Segment => segments.find((each) => each.field === field) as Segment;
  switch (batch.kind) {
    case 'counter':
      for (const { name, value } of batch.rows) yield [own, { key: name, value }];
      return;
    case 'node':
      for (const { ino, attr } of batch.rows) yield [own, { inode: ino, data: encodeAttr(attr) }];
      return;
    case 'entry':
      for (const { parent, ino, name, type } of batch.rows) yield [own, { parent, inode: ino, name, type }];
      return;
    case 'parent':
      for (const { ino, parent, count } of batch.rows) yield [own, { inode: ino, parent, cnt: count }];
      return;
    case 'chunk':
      for (const { ino, index, records } of batch.rows) yield [own, { inode: ino, index, slices: records }];
      return;
    case 'sliceRef':
      for (const { id, size, refs } of batch.rows) yield [own, { id, size, refs }];
      return;
    case 'symlink':
      for (const { ino, target } of batch.rows) yield [own, { inode: ino, target }];
      return;
    case 'xattr':
      for (const { ino, name, value } of batch.rows) yield [own, { inode: ino, name, value }];
      return;
    case 'sustained':
      for (const { sid, inos } of batch.rows) yield [own, { sid, inodes: inos }];
      return;
    case 'delfile':
      for (const { ino, length, time } of batch.rows) yield [own, { inode: ino, length, expire: time }];
      return;
    case 'acl':
      for (const { id, rule } of batch.rows) yield [own, { id, data: rule }];
      return;
    case 'dirStat':
      for (const { ino, value } of batch.rows)
        yield [own, { inode: ino, dataLength: value.length, usedSpace: value.space, usedInodes: value.inodes }];
      return;
    default:
      for (const { quota, limits, used } of batch.rows)
        yield [
          of(quotaSegments[quota.kind]),
          {
            key: quota.id,
            maxSpace: limits.space,
            maxInodes: limits.inodes,
            usedSpace: used.space,
            usedInodes: used.inodes,
            type: quotaTypes[quota.kind],
          },
        ];
  }
}

/** The record of a message. The list it was in tells whose quota it is, unless its type says otherwise. */
export function recordOf({ kind, list }: Segment, message: Message): RecordOf[RecordKind] {
  const number = (name: string): number => message[name] as number;
  const ino = (name: string): Ino => message[name] as Ino;
  const bytes = (name: string): Buffer => message[name] as Buffer;
  switch (kind) {
    case 'counter':
      return { name: String(message['key']), value: number('value') };
    case 'node':
      return { ino: ino('inode'), attr: decodeAttr(bytes('data')) };
    case 'entry':
      return { parent: ino('parent'), ino: ino('inode'), name: bytes('name'), type: number('type') as NodeType };
    case 'parent':
      return { ino: ino('inode'), parent: ino('parent'), count: number('cnt') };
    case 'chunk':
      return { ino: ino('inode'), index: number('index'), records: bytes('slices') };
    case 'sliceRef':
      return { id: number('id'), size: number('size'), refs: number('refs') };
    case 'symlink':
      return { ino: ino('inode'), target: bytes('target') };
    case 'xattr':
      return { ino: ino('inode'), name: String(message['name']), value: bytes('value') };
    case 'sustained':
      return { sid: number('sid'), inos: message['inodes'] as readonly Ino[] };
    case 'delfile':
      return { ino: ino('inode'), length: number('length'), time: number('expire') };
    case 'acl':
      return { id: number('id'), rule: bytes('data') };
    case 'dirStat':
      return {
        ino: ino('inode'),
        value: { length: number('dataLength'), space: number('usedSpace'), inodes: number('usedInodes') },
      };
    default: {
      const limits = { space: number('maxSpace'), inodes: number('maxInodes') };
      const used = { space: number('usedSpace'), inodes: number('usedInodes') };
      const type = list === 'userQuotas' ? 1 : list === 'groupQuotas' ? 2 : number('type');
      if (type === 0) return { quota: { kind: 'directory', id: ino('key') }, limits, used };
      return { quota: { kind: type === 1 ? 'user' : 'group', id: ino('key') }, limits, used };
    }
  }
}
