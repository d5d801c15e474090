/** A mount that outlives its servers: client and holder killed and restarted under a program that writes. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Holder } from '../../src/client/hold.ts';
import { EXIT_GONE, supervise } from '../../src/client/hold-supervise.ts';
import { mountState } from '../../src/fuse/mount.ts';
import { mountsAt } from '../../src/fuse/mountinfo.ts';
import { systemClock } from '../../src/lib/clock.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { onPath } from '../tools.ts';
import { type Event, run, scratch, serve, ServerProcess, shell, until, whyNoFuse } from './mounted.ts';
import type { ServerConfig } from './server.ts';

const skip = whyNoFuse() ?? (onPath('python3') ? false : 'no python3');
const timeout = 90_000;

async function startHolder(socket: string, targets: readonly string[]): Promise<ServerProcess> {
  const holder = new ServerProcess('holder.ts', [JSON.stringify({ socket, targets })]);
  await holder.next('ready');
  return holder;
}

/** Starts a client and returns it with what it said when it was ready. */
async function startClient(config: ServerConfig): Promise<{ readonly client: ServerProcess; readonly ready: Event }> {
  const client = new ServerProcess('server.ts', [JSON.stringify(config)]);
  return { client, ready: await client.next('serving') };
}

async function kill(process: ServerProcess): Promise<void> {
  process.child.kill('SIGKILL');
  await process.ended;
}

/** Appends numbered lines, each with fsync, to a file opened once; keeps a second file open for reading back. */
const appender = `
import os, sys, threading
path = sys.argv[1]
out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
back = os.open(path, os.O_RDONLY)
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
n = 0
at = 0
while not stop.is_set():
    line = b'%d\\n' % n
    assert os.write(out, line) == len(line)
    os.fsync(out)
    if n % 10 == 0:
        assert os.pread(back, len(line), at) == line, n
        os.stat(path)
    at += len(line)
    n += 1
os.close(out)
print(n)
`;

function startAppender(path: string): { readonly child: ChildProcess; readonly finish: () => Promise<number> } {
  const child = spawn('python3', ['-c', appender, path], { stdio: ['pipe', 'pipe', 'pipe'] });
  let output = '';
  let errors = '';
  child.stdout.on('data', (data: Buffer) => (output += data.toString()));
  child.stderr.on('data', (data: Buffer) => (errors += data.toString()));
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  return {
    child,
    async finish() {
      child.stdin.end();
      const code = await ended;
      assert.equal(code, 0, errors);
      return Number(output);
    },
  };
}

const numbers = (count: number): string => Array.from({ length: count }, (_, index) => `${index}\n`).join('');

test(
  'a writer sees no error and loses no line while clients and the holder are killed and replaced',
  { skip, timeout },
  async () => {
    await using folder = scratch();
    const [target, store, socket] = [join(folder.path, 'mnt'), join(folder.path, 'store'), join(folder.path, 'run', 'hold.sock')];
    mkdirSync(store);
    const config = { target, store, holder: socket, delayed: true };
    const alive: ServerProcess[] = [];
    let writer: ChildProcess | undefined;
    try {
      let holder = await startHolder(socket, [target]);
      alive.push(holder);
      await assert.rejects(shell(`touch ${target}/file`), /Read-only file system/);
      let { client, ready } = await startClient(config);
      alive.push(client);
      assert.equal(ready['resumed'], false);
      await holder.next('put');
      const log = join(target, 'log');
      const writing = startAppender(log);
      writer = writing.child;
      await until('lines are written', () => existsSync(join(store, '2')) && readFileSync(join(store, '2')).length > 100);

      for (let round = 0; round < 3; round++) {
        await kill(client);
        ({ client, ready } = await startClient(config));
        alive.push(client);
        assert.equal(ready['resumed'], true);
        assert.ok(Number(ready['handles']) >= 2, `the open files were not passed on: ${String(ready['handles'])}`);
        const before = readFileSync(join(store, '2')).length;
        await until('the writer goes on', () => readFileSync(join(store, '2')).length > before);
      }

      // A client that is asked to end does not unmount either.
      client.say('stop');
      assert.equal((await client.next('end'))['end'], 'stopped');
      ({ client, ready } = await startClient(config));
      alive.push(client);
      assert.equal(ready['resumed'], true);

      // The holder is replaced: the client gives it the descriptor again.
      await kill(holder);
      holder = await startHolder(socket, [target]);
      alive.push(holder);
      await holder.next('put');
      await kill(client);
      ({ client, ready } = await startClient(config));
      alive.push(client);
      assert.equal(ready['resumed'], true);

      const count = await writing.finish();
      assert.ok(count > 20, `${count} lines`);
      assert.equal(await run('cat', [log]), numbers(count));

      holder.child.kill('SIGTERM');
      assert.equal(await holder.ended, 0);
      assert.deepEqual(mountsAt(target), []);
      assert.equal(existsSync(socket), false);
      assert.equal((await client.next('end'))['end'], 'unmounted');
    } finally {
      writer?.kill('SIGKILL');
      for (const each of alive) await kill(each);
    }
  },
);

test(
  'when client and holder both die, the next client covers the dead mount, and in the end every layer is taken away',
  { skip, timeout },
  async () => {
    await using folder = scratch();
    const [target, socket] = [join(folder.path, 'mnt'), join(folder.path, 'hold.sock')];
    {
      await using holder = await startHolder(socket, [target]);
      await using client = await serve({ target, holder: socket });
      await holder.next('put');
      assert.equal(await shell(`echo a > ${target}/f; cat ${target}/f`), 'a\n');
      client.child.kill('SIGKILL');
    }
    assert.equal(await mountState(target), 'dead');
    await using holder = await startHolder(socket, [target]);
    assert.equal(await mountState(target), 'dead');
    await using client = await serve({ target, holder: socket });
    assert.equal(await shell(`echo b > ${target}/f; cat ${target}/f`), 'b\n');
    holder.child.kill('SIGTERM');
    await holder.ended;
    assert.equal((await client.next('end'))['end'], 'unmounted');
    assert.deepEqual(mountsAt(target), []);
  },
);

test('a session that somebody unmounted is not taken over; the next client mounts afresh', { skip, timeout }, async () => {
  await using folder = scratch();
  const [target, socket] = [join(folder.path, 'mnt'), join(folder.path, 'hold.sock')];
  await using holder = await startHolder(socket, [target]);
  {
    await using client = await serve({ target, holder: socket });
    await holder.next('put');
    await run('umount', [target]);
    await client.next('end');
  }
  const { client, ready } = await startClient({ target, holder: socket });
  await using _client = client;
  assert.equal(ready['resumed'], false);
  assert.equal(await shell(`echo c > ${target}/f; cat ${target}/f`), 'c\n');
});

test('a second holder at the same socket is refused, and a missing one is named', { skip, timeout }, async () => {
  await using folder = scratch();
  const socket = join(folder.path, 'hold.sock');
  await using holder = await startHolder(socket, []);
  await assert.rejects(startHolder(socket, []), /another holder listens at/);
  assert.ok(holder.child.pid);
  mkdirSync(join(folder.path, 'mnt'));
  await assert.rejects(
    serve({ target: join(folder.path, 'mnt'), holder: join(folder.path, 'none.sock') }),
    /no holder listens at/,
  );
});

test(
  'on one machine the holder is the parent: a crashed client is started again, and stopping unmounts',
  { skip, timeout },
  async () => {
    await using folder = scratch();
    const [target, store, socket] = [join(folder.path, 'mnt'), join(folder.path, 'store'), join(folder.path, 'hold.sock')];
    mkdirSync(store);
    const put = { count: 0 };
    const holder = await Holder.start({
      socket,
      targets: [target],
      guard: false,
      log: nullLogger,
      onPut: () => void put.count++,
    });
    const stop = new AbortController();
    const pids: number[] = [];
    const done = supervise(
      {
        command: process.execPath,
        args: [join(import.meta.dirname, 'server.ts'), JSON.stringify({ target, store, holder: socket } satisfies ServerConfig)],
        holder,
        clock: systemClock,
        log: nullLogger,
        stdio: 'ignore',
        onStart: (pid) => void pids.push(pid),
      },
      stop.signal,
    );
    try {
      await until('it is mounted', () => put.count === 1);
      await shell(`echo before > ${target}/f`);
      process.kill(pids[0] ?? 0, 'SIGKILL');
      // The call waits in the kernel until the next client takes over.
      assert.equal(await shell(`echo after >> ${target}/f; cat ${target}/f`), 'before\nafter\n');
      assert.equal(pids.length, 2);
    } finally {
      stop.abort();
    }
    assert.equal(await done, 0);
    assert.deepEqual(mountsAt(target), []);
    assert.equal(existsSync(socket), false);
  },
);

test(
  'where nothing is mounted the pod begins anew, and where the holder alone is started again it goes on',
  { skip, timeout },
  async () => {
    await using folder = scratch();
    const [target, served] = [join(folder.path, 'mnt'), join(folder.path, 'served')];
    const start = (socket: string): Promise<Holder> =>
      Holder.start({ socket: join(folder.path, socket), targets: [target], log: nullLogger });
    writeFileSync(served, '');
    await using first = await start('one.sock');
    assert.ok(!existsSync(served), 'that of a sandbox before');
    writeFileSync(served, '');
    // The first one lives on, so its guard is there: as after a SIGKILL.
    await using second = await start('two.sock');
    assert.ok(existsSync(served));
    assert.deepEqual([first.targets, second.targets], [[], []]);
  },
);

test('a client that says the volume is gone is not started again, and its mount is taken away', { skip, timeout }, async () => {
  await using folder = scratch();
  const [target, socket] = [join(folder.path, 'mnt'), join(folder.path, 'hold.sock')];
  const holder = await Holder.start({ socket, targets: [target], log: nullLogger });
  assert.equal(mountsAt(target).length, 1);
  const options = { holder, clock: systemClock, log: nullLogger, command: 'sh', args: ['-c', 'exit 11'] };
  assert.equal(await supervise(options, new AbortController().signal), EXIT_GONE);
  assert.deepEqual(mountsAt(target), []);
});
