import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { Turn } from './turn.ts';

/** Notes how much each write brings. */
function collector(): { readonly stream: Writable; readonly writes: string[] } {
  const writes: string[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      writes.push(chunk.toString());
      done();
    },
    writev(chunks, done) {
      writes.push(chunks.map(({ chunk }) => String(chunk)).join(''));
      done();
    },
  });
  return { stream, writes };
}

const turnOfTheLoop = (): Promise<void> => new Promise((done) => setImmediate(done));

test('the first command of a turn is sent at once, those behind it together', async () => {
  const { stream, writes } = collector();
  const turn = new Turn();
  const send = (text: string): void => {
    turn.sending(stream);
    stream.write(text);
  };
  for (const text of ['a', 'b', 'c', 'd']) send(text);
  assert.deepEqual(writes, ['a']);
  await turnOfTheLoop();
  assert.deepEqual(writes, ['a', 'bcd']);
  send('e');
  assert.deepEqual(writes, ['a', 'bcd', 'e']);
  await turnOfTheLoop();
  send('f');
  send('g');
  await turnOfTheLoop();
  assert.deepEqual(writes, ['a', 'bcd', 'e', 'f', 'g']);
});

test('what was held back when the connection changed is sent on its own one, and nothing hangs', async () => {
  const [first, second] = [collector(), collector()];
  const turn = new Turn();
  turn.sending(first.stream);
  turn.sending(first.stream);
  first.stream.write('old');
  turn.sending(second.stream);
  second.stream.write('new');
  turn.sending(undefined);
  await turnOfTheLoop();
  assert.deepEqual([first.writes, second.writes], [['old'], ['new']]);
  first.stream.destroy();
  await once(first.stream, 'close');
  turn.sending(first.stream);
  turn.sending(first.stream);
  await turnOfTheLoop();
});
