import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InitBit } from './constants.ts';
import { hasFlag, type InitAnswer, type InitOptions, negotiate, readInit } from './init.ts';

const features = { posixLocks: false, bsdLocks: false };

/** What a kernel sends: 7.45 with everything, unless told otherwise. */
function offer(part: { major?: number; minor?: number; flags?: number; flags2?: number; length?: number } = {}): Buffer {
  const body = Buffer.alloc(part.length ?? 64);
  const words = [part.major ?? 7, part.minor ?? 45, 131072, part.flags ?? 0x73ff_fffb, part.flags2 ?? 0x5fd];
  for (const [index, word] of words.entries()) if (index * 4 + 4 <= body.length) body.writeUInt32LE(word, index * 4);
  return body;
}

function agreed(answer: InitAnswer): Extract<InitAnswer, { kind: 'agreed' }> {
  if (answer.kind !== 'agreed') assert.fail(`answered ${answer.kind}`);
  return answer;
}

const flagsOf = (options: InitOptions, kernel = offer(), has = features): string[] => {
  const { negotiated } = agreed(negotiate(kernel, options, has));
  return Object.entries(InitBit)
    .filter(([, bit]) => hasFlag(negotiated, bit))
    .map(([name]) => name);
};

test('a current kernel gives large requests, attributes with listings, and requests again after a death', () => {
  const { reply, negotiated } = agreed(negotiate(offer(), {}, features));
  assert.equal(reply.length, 64);
  assert.deepEqual([reply.readUInt32LE(0), reply.readUInt32LE(4)], [7, 45]);
  assert.equal(reply.readUInt32LE(20), 1 << 20);
  assert.equal(reply.readUInt16LE(28), 256);
  assert.equal(reply.readUInt16LE(16), 200);
  assert.equal(reply.readUInt16LE(18), 150);
  assert.equal(reply.readUInt32LE(24), 1);
  assert.equal(negotiated.maxWrite, 1 << 20);
  assert.deepEqual(
    flagsOf({}).toSorted(),
    [
      'ASYNC_READ',
      'AUTO_INVAL_DATA',
      'BIG_WRITES',
      'CACHE_SYMLINKS',
      'DO_READDIRPLUS',
      'HANDLE_KILLPRIV_V2',
      'HAS_RESEND',
      'INIT_EXT',
      'MAX_PAGES',
      'PARALLEL_DIROPS',
      'READDIRPLUS_AUTO',
    ].toSorted(),
  );
});

test('options and the methods of the file system change the flags', () => {
  const off = flagsOf({ autoInvalidateData: false, handleKillPriv: false, cacheSymlinks: false, readdirPlus: 'never' });
  for (const name of ['AUTO_INVAL_DATA', 'HANDLE_KILLPRIV_V2', 'CACHE_SYMLINKS', 'DO_READDIRPLUS', 'READDIRPLUS_AUTO'])
    assert.ok(!off.includes(name), name);
  const on = flagsOf(
    {
      atomicTruncate: true,
      writebackCache: true,
      asyncDirectIo: true,
      posixAcl: true,
      exportSupport: true,
      readdirPlus: 'always',
    },
    offer(),
    { posixLocks: true, bsdLocks: true },
  );
  for (const name of [
    'ATOMIC_O_TRUNC',
    'WRITEBACK_CACHE',
    'ASYNC_DIO',
    'POSIX_ACL',
    'DONT_MASK',
    'EXPORT_SUPPORT',
    'POSIX_LOCKS',
    'FLOCK_LOCKS',
  ])
    assert.ok(on.includes(name), name);
  assert.ok(!on.includes('READDIRPLUS_AUTO'));
});

test('what the kernel does not offer is not taken', () => {
  const { negotiated } = agreed(negotiate(offer({ minor: 31, flags: 1 << InitBit.BIG_WRITES, flags2: 0 }), {}, features));
  assert.deepEqual([negotiated.minor, negotiated.flags, negotiated.flags2], [31, 1 << InitBit.BIG_WRITES, 0]);
  assert.equal(negotiated.maxWrite, 128 << 10);
  // Without INIT_EXT the words after the flags mean nothing.
  const old = agreed(negotiate(offer({ flags: 0x33ff_fffb & ~(1 << InitBit.INIT_EXT), flags2: 0xffff_ffff }), {}, features));
  assert.equal(old.negotiated.flags2, 0);
});

test('the size of writes is whole pages between one and 256', () => {
  const size = (maxWrite: number): number => agreed(negotiate(offer(), { maxWrite }, features)).negotiated.maxWrite;
  assert.deepEqual([0, 5000, 131072, 1 << 24].map(size), [4096, 4096, 131072, 1 << 20]);
});

test('a newer major version is asked to come down, an older one is refused, and so is a short request', () => {
  const again = negotiate(offer({ major: 8 }), {}, features);
  assert.equal(again.kind, 'again');
  assert.equal(again.kind === 'again' && again.reply.readUInt32LE(0), 7);
  for (const kernel of [offer({ major: 6 }), offer({ minor: 12 }), offer({ length: 8 })])
    assert.equal(negotiate(kernel, {}, features).kind, 'refused');
});

test('the next process reads from the reply what was agreed on', () => {
  const { reply, negotiated } = agreed(negotiate(offer({ minor: 39 }), { maxWrite: 65536, maxBackground: 7 }, features));
  assert.deepEqual(readInit(reply), negotiated);
  assert.throws(() => readInit(reply.subarray(0, 24)), RangeError);
});

test('local files are read in place of ours where that is wanted and offered, and none that lies on another stack', () => {
  const { reply } = agreed(negotiate(offer(), { passthrough: true }, features));
  assert.ok(flagsOf({ passthrough: true }).includes('PASSTHROUGH'));
  assert.equal(reply.readUInt32LE(36), 1);
  assert.ok(hasFlag(readInit(reply), InitBit.PASSTHROUGH), 'a process that takes over knows');
  assert.ok(!flagsOf({}).includes('PASSTHROUGH'));
  assert.equal(agreed(negotiate(offer(), {}, features)).reply.readUInt32LE(36), 0);
  assert.ok(!flagsOf({ passthrough: true }, offer({ flags2: 0x5dd })).includes('PASSTHROUGH'));
  assert.ok(!flagsOf({ passthrough: true, writebackCache: true }).includes('PASSTHROUGH'));
});
