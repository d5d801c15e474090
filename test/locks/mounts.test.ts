/** Locks between processes on two mounts of one volume, as fcntl(2) and flock(2) promise them. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { until } from '../cli/command.ts';
import { cannotMount, freshVolume, type Mounted, startMount } from '../mounted.ts';
import { onPath } from '../tools.ts';
import { Locker, noPython, pending } from './locker.ts';

const client = (mounted: Mounted): number =>
  (JSON.parse(readFileSync(join(mounted.folder, '.config'), 'utf8')) as { Pid: number }).Pid;

/** Two processes that have one file open as `f`, `a` at the path `here`, `b` at `there`. */
interface Pair extends AsyncDisposable {
  readonly a: Locker;
  readonly b: Locker;
  readonly here: string;
  readonly there: string;
}

for (const engine of ['redis', 'sqlite', 'postgres', 'mysql'] as const)
  describe(`locks on two mounts over ${engine}`, { skip: cannotMount || noPython }, () => {
    let one: Mounted;
    let two: Mounted;
    let serial = 0;

    before(async () => {
      one = await freshVolume(engine);
      two = await startMount(one.metaUrl, join(one.work, 'two'), one.work);
    });
    after(async () => {
      await two?.[Symbol.asyncDispose]();
      await one?.[Symbol.asyncDispose]();
    });

    /** Two processes with one file open, each on its mount. */
    async function pair(): Promise<Pair> {
      const name = `file-${serial++}`;
      const [here, there] = [join(one.folder, name), join(two.folder, name)];
      writeFileSync(here, 'initial');
      const [a, b] = [new Locker(), new Locker()];
      assert.equal(await a.do(`open f ${here} rw`), 'ok');
      assert.equal(await b.do(`open f ${there} rw`), 'ok');
      return {
        a,
        b,
        here,
        there,
        [Symbol.asyncDispose]: async () => {
          await a.kill();
          await b.kill();
        },
      };
    }

    test('fcntl: ranges exclude each other, split, and are told of', async () => {
      await using locks = await pair();
      const { a, b } = locks;
      assert.equal(await a.do('fcntl f w 0 100'), 'ok');
      assert.equal(await b.do('fcntl f r 99 1'), 'EAGAIN');
      assert.equal(await b.do('fcntl f w 100 10'), 'ok');
      assert.equal(await a.do('fcntl f u 40 20'), 'ok');
      assert.equal(await b.do('get f w 0 1000'), 'w 0 40');
      assert.equal(await b.do('get f w 45 10'), 'free');
      assert.equal(await b.do('get f r 50 0'), 'w 60 40');
      assert.equal(await a.do('get f r 0 0'), 'w 100 10');
      assert.equal(await b.do('fcntl f r 40 20'), 'ok');
      assert.equal(await a.do('fcntl f r 30 20'), 'ok');
      assert.equal(await a.do('fcntl f w 30 20'), 'EAGAIN');
    });

    test('flock: many may read, one may write', async () => {
      await using locks = await pair();
      const { a, b } = locks;
      assert.equal(await a.do('flock f r'), 'ok');
      assert.equal(await b.do('flock f r'), 'ok');
      assert.equal(await b.do('flock f w'), 'EAGAIN');
      assert.equal(await a.do('flock f u'), 'ok');
      assert.equal(await b.do('flock f w'), 'ok');
      assert.equal(await a.do('flock f r'), 'EAGAIN');
      assert.equal(await a.do('fcntl f w'), 'ok', 'the two kinds know nothing of each other');
    });

    for (const kind of ['fcntl', 'flock', 'ofd'])
      test(`${kind}: who waits is woken by an unlock, by a close, and by a death`, async () => {
        for (const end of ['unlock', 'close', 'death']) {
          await using locks = await pair();
          const { a, b } = locks;
          assert.equal(await a.do(`${kind} f w`), 'ok');
          const wait = b.do(`${kind} f w wait`);
          assert.ok(await pending(wait));
          if (end === 'death') await a.kill();
          else assert.equal(await a.do(end === 'unlock' ? `${kind} f u` : 'close f'), 'ok');
          assert.equal(await wait, 'ok', end);
        }
      });

    test('a wait that is interrupted by a signal ends with EINTR, one that is killed ends', async () => {
      for (const kind of ['fcntl', 'flock']) {
        await using locks = await pair();
        const { a, b } = locks;
        assert.equal(await a.do(`${kind} f w`), 'ok');
        const wait = b.do(`${kind} f r wait`);
        assert.ok(await pending(wait));
        b.signal('SIGUSR1');
        assert.equal(await wait, 'EINTR');
        const again = b.do(`${kind} f r wait`);
        assert.ok(await pending(again, 100));
        await b.kill();
        assert.equal(await again, 'ended');
        assert.equal(await a.do(`${kind} f u`), 'ok');
        assert.equal(await a.do(`${kind} f w`), 'ok', 'nothing is left of the one that was killed');
      }
    });

    test('any close of a file by a process ends its fcntl locks, and a child does not keep them', async () => {
      await using locks = await pair();
      const { a, b } = locks;
      assert.equal(await a.do('fcntl f w 0 10'), 'ok');
      assert.equal(await a.do('dup f g'), 'ok');
      assert.equal(await a.do('fork'), 'ok');
      assert.equal(await a.do('close g'), 'ok');
      assert.equal(await b.do('get f w'), 'free');
      assert.equal(await a.do('fcntl f w 0 10'), 'ok');
      assert.equal(await a.do('close f'), 'ok');
      assert.equal(await b.do('fcntl f w'), 'ok');
      assert.equal(await a.do('reap'), 'ok');
      assert.equal(await b.do('get f w'), 'free');
    });

    test('a flock lives as long as the open file does, in whichever process', async () => {
      await using locks = await pair();
      const { a, b } = locks;
      assert.equal(await a.do('flock f w'), 'ok');
      assert.equal(await a.do('fork'), 'ok');
      assert.equal(await a.do('close f'), 'ok');
      assert.equal(await b.do('flock f r'), 'EAGAIN');
      const wait = b.do('flock f r wait');
      assert.ok(await pending(wait, 100));
      assert.equal(await a.do('reap'), 'ok');
      assert.equal(await wait, 'ok');
    });

    test('locks that belong to an open file end with it alone', async () => {
      await using locks = await pair();
      const { a, b } = locks;
      assert.equal(await a.do(`open g ${locks.here} rw`), 'ok');
      assert.equal(await a.do('ofd f w 0 10'), 'ok');
      assert.equal(await a.do('ofd g w 5 10'), 'EAGAIN', 'another open file of the same process');
      assert.equal(await a.do('ofd g w 10 10'), 'ok');
      assert.equal(await a.do('close f'), 'ok');
      await until('the end of the open file is known', async () => (await b.do('fcntl f w 0 10')) === 'ok');
      assert.equal(await b.do('fcntl f w 10 1'), 'EAGAIN');
    });

    test('a lock through a descriptor that only reads ends with it', async () => {
      await using locks = await pair();
      const { a, b } = locks;
      assert.equal(await a.do('close f'), 'ok');
      assert.equal(await a.do(`open f ${locks.here} r`), 'ok');
      assert.equal(await a.do('fcntl f w 0 10'), 'EBADF');
      assert.equal(await a.do('fcntl f r 0 10'), 'ok');
      assert.equal(await b.do('fcntl f w'), 'EAGAIN');
      const wait = b.do('fcntl f w wait');
      assert.equal(await a.do('close f'), 'ok');
      assert.equal(await wait, 'ok');
    });

    test('what was written under a lock is there for who locks next, though both have the file open all the time', async () => {
      await using locks = await pair();
      const { a, b } = locks;
      for (const kind of ['fcntl', 'flock'])
        for (let round = 0; round < 10; round++) {
          const [writer, reader] = round % 2 === 0 ? [a, b] : [b, a];
          const text = `${kind}-${round}-`.padEnd(20 + round * 7, 'x');
          assert.equal(await writer.do(`${kind} f w wait`), 'ok');
          assert.equal(await writer.do(`write f 0 ${text}`), 'ok');
          assert.equal(await writer.do(`${kind} f u`), 'ok');
          assert.equal(await reader.do(`${kind} f r wait`), 'ok');
          assert.equal(await reader.do(`read f 0 ${text.length}`), text);
          assert.equal(await reader.do(`${kind} f u`), 'ok');
        }
    });

    test('flock(1) keeps a counter right that both mounts count up', { skip: onPath('flock') ? false : 'no flock(1)' }, () => {
      const name = `counter-${serial++}`;
      writeFileSync(join(one.folder, name), '0');
      const script = (folder: string): string =>
        `for i in $(seq 15); do flock ${folder}/${name}.lock sh -c 'n=$(cat ${folder}/${name}); echo $((n+1)) > ${folder}/${name}'; done`;
      execFileSync('sh', ['-c', `(${script(one.folder)}) & (${script(two.folder)}) & (${script(two.folder)}) & wait`], {
        timeout: 240_000,
      });
      assert.equal(readFileSync(join(one.folder, name), 'utf8').trim(), '45');
    });

    test('locks, and who waits for them, outlive a client that is killed', async () => {
      await using locks = await pair();
      const { a, b } = locks;
      assert.equal(await a.do('fcntl f w 0 10'), 'ok');
      assert.equal(await a.do('flock f w'), 'ok');
      const waits = [b.do('fcntl f w 5 10 wait')];
      assert.ok(await pending(waits[0]!));
      for (const mounted of [one, two]) {
        const pid = client(mounted);
        process.kill(pid, 'SIGKILL');
        await until('another client serves', () => client(mounted) !== pid);
      }
      assert.ok(await pending(waits[0]!), 'neither lost nor answered');
      assert.equal(await a.do('get f w 0 10'), 'free', 'its own lock');
      await using c = new Locker();
      assert.equal(await c.do(`open f ${locks.there} rw`), 'ok');
      assert.equal(await c.do('get f w 0 10'), 'w 0 10');
      assert.equal(await c.do('flock f r'), 'EAGAIN');
      assert.equal(await a.do('fcntl f u'), 'ok');
      assert.equal(await waits[0], 'ok');
      const last = c.do('flock f w wait');
      assert.ok(await pending(last, 100));
      assert.equal(await a.do('close f'), 'ok');
      assert.equal(await last, 'ok');
    });
  });
