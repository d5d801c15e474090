/**
 * A machine that dies, or stands still, under its mount, over every engine: when its session is over another mount takes over its locks,
 * and deletes what it had open without a name. One that wakes up again finds itself without them, and works.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statfsSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { until } from '../cli/command.ts';
import { cannotMount, clearMounts, freshVolume, mountBeside, type Mounted } from '../mounted.ts';
import { Locker, noPython } from './locker.ts';

/** Sessions are over after five of these. */
const HEARTBEAT = ['--heartbeat', '1s', '--attr-cache', '0s', '--entry-cache', '0s'];

/** The processes of a mount: who keeps it, and the client. */
function processes(mounted: Mounted): readonly number[] {
  const { Pid } = JSON.parse(readFileSync(join(mounted.folder, '.config'), 'utf8')) as { Pid: number };
  return [mounted.child.pid ?? 0, Pid];
}

/** Inodes in use, as a mount tells. */
function inodes({ folder }: Mounted): number {
  const { files, ffree } = statfsSync(folder);
  return files - ffree;
}

/** How many locks were lost, as the log of all mounts of the volume tells. */
const losses = ({ work }: Mounted): number => readFileSync(join(work, 'mount.log'), 'utf8').split('a lock is lost').length - 1;

// Side by side: they wait for sessions to end.
describe('locks of a machine that dies', { concurrency: true }, () => {
  for (const engine of ['redis', 'sqlite', 'postgres', 'mysql'] as const)
    test(
      `what a machine that stands still, and one that dies, held is taken over after its session, over ${engine}`,
      { skip: cannotMount || noPython, timeout: 300_000 },
      async () => {
        await using here = await freshVolume(engine, { format: ['--trash-days', '0'], mount: HEARTBEAT });
        await using there = await mountBeside(here, 'there', { mount: HEARTBEAT });
        await using b = new Locker();
        for (const name of ['locked', 'gone']) writeFileSync(join(here.folder, name), name);
        assert.equal(await b.do(`open f ${join(here.folder, 'locked')} rw`), 'ok');
        for (const signal of ['SIGSTOP', 'SIGKILL'] as const) {
          await using a = new Locker();
          writeFileSync(join(there.folder, 'gone'), 'gone');
          for (const [file, name] of [
            ['f', 'locked'],
            ['g', 'gone'],
          ] as const)
            assert.equal(await a.do(`open ${file} ${join(there.folder, name)} rw`), 'ok');
          assert.equal(await a.do('flock f w'), 'ok');
          assert.equal(await a.do('fcntl f w 0 10'), 'ok');
          unlinkSync(join(there.folder, 'gone'));
          assert.equal(await a.do('read g 0 4'), 'gone');
          assert.equal(await b.do('flock f w'), 'EAGAIN');
          // The inode is counted in the database within a second.
          await until('the file without a name is counted', () => inodes(here) === 2);
          const ended = processes(there);
          for (const pid of ended) process.kill(pid, signal);
          assert.equal(await b.do('flock f w wait'), 'ok', signal);
          assert.equal(await b.do('fcntl f w 0 10 wait'), 'ok', signal);
          await until('the file without a name is deleted', () => inodes(here) === 1);
          if (signal === 'SIGKILL') {
            await clearMounts(there.folder);
            break;
          }
          for (const pid of ended.toReversed()) process.kill(pid, 'SIGCONT');
          // What it held is another's now, which it must find before that one gives it back: else it takes it again. Everything else goes on.
          await until('the mount knows that both its locks are lost', () => losses(there) === 2);
          await until('the mount answers', () => readdirSync(there.folder).includes('locked'));
          writeFileSync(join(there.folder, 'awake'), 'again');
          assert.equal(readFileSync(join(here.folder, 'awake'), 'utf8'), 'again');
          unlinkSync(join(here.folder, 'awake'));
          await using c = new Locker();
          assert.equal(await c.do(`open f ${join(there.folder, 'locked')} rw`), 'ok');
          assert.equal(await c.do('flock f w'), 'EAGAIN');
          assert.equal(await b.do('flock f u'), 'ok');
          assert.equal(await b.do('fcntl f u'), 'ok');
          assert.equal(await c.do('flock f w wait'), 'ok');
          assert.equal(await c.do('flock f u'), 'ok');
          await a.kill();
        }
      },
    );
});
