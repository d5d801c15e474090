import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NodeFlag } from '../meta/types.ts';
import { Command, flagsAfter, flagsAnswer } from './node-flags.ts';

const word = (value: number, bytes = 8): Buffer => {
  const buffer = Buffer.alloc(bytes);
  buffer.writeUInt32LE(value);
  return buffer;
};

test('flags are translated both ways, and what is stored beside them stays', () => {
  const stored = NodeFlag.Immutable | NodeFlag.SkipTrash | 0x8000;
  assert.deepEqual(flagsAnswer(Command.GETFLAGS, stored, 8), word(0x11));
  assert.deepEqual(flagsAnswer(Command.GETFLAGS_32, stored, 4), word(0x11, 4));
  assert.deepEqual(flagsAnswer(Command.FSGETXATTR, stored, 28), word(0x8, 28));
  assert.equal(flagsAfter(Command.SETFLAGS, stored, word(0x20)), NodeFlag.Append | 0x8000);
  // The trash is not known to this command.
  assert.equal(flagsAfter(Command.FSSETXATTR, stored, word(0x10, 28)), NodeFlag.Append | NodeFlag.SkipTrash | 0x8000);
  assert.equal(flagsAnswer(Command.SETFLAGS, stored, 0), undefined);
  assert.equal(flagsAfter(Command.GETFLAGS, stored, Buffer.alloc(0)), undefined);
});

test('flags that are not kept, and other sizes, are refused', () => {
  assert.throws(() => flagsAfter(Command.SETFLAGS, 0, word(0x40)), { code: 'ENOTSUP' });
  assert.throws(() => flagsAfter(Command.SETFLAGS, 0, Buffer.alloc(8, 0xff)), { code: 'ENOTSUP' });
  assert.throws(() => flagsAfter(Command.FSSETXATTR, 0, Buffer.alloc(28, 1)), { code: 'ENOTSUP' });
  assert.throws(() => flagsAfter(Command.SETFLAGS, 0, word(0, 5)), { code: 'EINVAL' });
  assert.throws(() => flagsAnswer(Command.GETFLAGS, 0, 3), { code: 'EINVAL' });
  assert.throws(() => flagsAnswer(Command.FSGETXATTR, 0, 8), { code: 'EINVAL' });
});
