import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FileSystem, FuseRequest, Reply } from '../fuse/types.ts';
import { systemClock } from '../lib/clock.ts';
import { ino, VIRTUAL_INO } from '../lib/int64.ts';
import { AccessLog } from './accesslog.ts';
import { observed, OperationStats } from './observed.ts';

const request = { uid: 0, gid: 0, pid: 1 } as FuseRequest;
const reply = { data: () => {}, error: () => {} } as unknown as Reply;

test('the access log tells of what is read, but not of its own readers', async () => {
  const log = new AccessLog(systemClock);
  const inner = { read: (_request: FuseRequest, answer: Reply) => answer.data(Buffer.alloc(3)) } as unknown as FileSystem;
  const outer = observed(inner, new OperationStats(), log);
  const reader = log.open();
  const logFile = ino(VIRTUAL_INO + 1);
  await outer.read?.(request, reply, logFile, 1, 0, 4096);
  await outer.read?.(request, reply, ino(7), 2, 0, 4096);
  await outer.read?.(request, reply, logFile, 1, 0, 4096);
  const lines = (await reader.read(65_536, new AbortController().signal)).toString().trimEnd().split('\n');
  assert.deepEqual(
    lines.map((line) => / (\w+ \(.*\)): \(3\) - OK/.exec(line)?.[1]),
    ['read (7,4096,0,2)'],
  );
  reader.close();
});
