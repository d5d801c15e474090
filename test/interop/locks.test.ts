/** Locks between processes on a mount of the official client and one of ours, in both directions. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { until } from '../cli/command.ts';
import { Locker, noPython, pending } from '../locks/locker.ts';
import { cannotInteroperate } from './official.ts';
import { type ClientName, openPair, otherClient, type Pair } from './pair.ts';

for (const engine of ['redis', 'sqlite', 'postgres', 'mysql'] as const)
  describe(`locks beside the official client over ${engine}`, { skip: cannotInteroperate || noPython }, () => {
    let pair: Pair;
    let serial = 0;
    before(async () => {
      pair = await openPair({ engine });
    });
    after(() => pair?.[Symbol.asyncDispose]());

    /** A process with a new file open as `f` on each side. */
    async function open(first: ClientName): Promise<readonly [Locker, Locker, AsyncDisposable]> {
      const name = `file-${serial++}`;
      writeFileSync(join(pair.folder(first), name), 'x'.repeat(100));
      const lockers = [new Locker(), new Locker()] as const;
      assert.equal(await lockers[0].do(`open f ${join(pair.folder(first), name)} rw`), 'ok');
      assert.equal(await lockers[1].do(`open f ${join(pair.folder(otherClient(first)), name)} rw`), 'ok');
      const end = { [Symbol.asyncDispose]: async () => void (await Promise.all(lockers.map((locker) => locker.kill()))) };
      return [...lockers, end];
    }

    for (const first of ['official', 'ours'] as const) {
      const second = otherClient(first);

      test(`what ${first} locks, ${second} cannot lock, until it is unlocked`, async () => {
        const [a, b, end] = await open(first);
        await using _ = end;
        for (const kind of ['fcntl', 'flock']) {
          assert.equal(await a.do(`${kind} f w`), 'ok');
          assert.equal(await b.do(`${kind} f w`), 'EAGAIN');
          assert.equal(await b.do(`${kind} f r`), 'EAGAIN');
          const wait = b.do(`${kind} f r wait`);
          assert.ok(await pending(wait));
          assert.equal(await a.do(`${kind} f u`), 'ok');
          assert.equal(await wait, 'ok');
          assert.equal(await a.do(`${kind} f r`), 'ok');
          assert.equal(await b.do(`${kind} f u`), 'ok');
          assert.equal(await a.do(`${kind} f u`), 'ok');
        }
      });

      test(`ranges that ${first} splits and joins are understood by ${second}`, async () => {
        const [a, b, end] = await open(first);
        await using _ = end;
        for (const command of ['fcntl f w 0 100', 'fcntl f u 40 20', 'fcntl f r 70 10', 'fcntl f r 80 20', 'fcntl f w 1000 0'])
          assert.equal(await a.do(command), 'ok');
        assert.equal(await b.do('get f w 0 10'), 'w 0 40');
        assert.equal(await b.do('get f w 40 20'), 'free');
        assert.equal(await b.do('get f r 60 1000'), 'w 60 10');
        assert.equal(await b.do('get f w 90 1'), 'r 70 30');
        assert.equal(await b.do('fcntl f r 75 20'), 'ok');
        assert.equal(await b.do('fcntl f w 5000 1'), 'EAGAIN');
        assert.equal(await a.do('fcntl f w 75 1'), 'EAGAIN');
        assert.equal(await a.do('fcntl f u'), 'ok');
        assert.equal(await b.do('fcntl f w 0 0'), 'ok');
      });

      test(`a process of ${first} that dies leaves no lock to ${second}`, async () => {
        const [a, b, end] = await open(first);
        await using _ = end;
        assert.equal(await a.do('fcntl f w'), 'ok');
        assert.equal(await a.do('flock f w'), 'ok');
        assert.equal(await b.do('fcntl f r'), 'EAGAIN');
        await a.kill();
        await until('its locks are gone', async () => (await b.do('fcntl f w')) === 'ok' && (await b.do('flock f w')) === 'ok');
      });
    }

    test('locks of a mount that has ended are gone', async () => {
      for (const first of ['official', 'ours'] as const) {
        const [a, b, end] = await open(first);
        await using _ = end;
        for (const kind of ['fcntl', 'flock']) {
          assert.equal(await a.do(`${kind} f r`), 'ok');
          assert.equal(await b.do(`${kind} f w`), 'EAGAIN');
        }
        await a.kill();
        await pair.unmount(first);
        for (const kind of ['fcntl', 'flock']) assert.equal(await b.do(`${kind} f w`), 'ok');
        await b.kill();
        await pair.mount(first);
      }
    });
  });
