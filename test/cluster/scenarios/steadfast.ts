/**
 * An application that notices whatever its file system does wrong: it writes and checks what it wrote, and holds on to everything that
 * a program can hold, while its client is killed and replaced. It runs by the Node of juicepod's image.
 */
import assert from 'node:assert/strict';
import { kubectl, tryKubectl, until } from './kubectl.ts';
import { clientContainer, deletePod, idle, inside, type Pod, shell, startPod, statusOf } from './pods.ts';
import type { World } from './world.ts';

/**
 * FOLDER, while \`flock\` holds its file \`lock\`. Held from the beginning to the end: a file that has no name any more, a log, and a SQLite
 * database that is locked (by fcntl: SQLite's locks are such ones). In each round a file is written and renamed, an earlier one is
 * read (past the page cache, every other time), rewritten or removed, the unnamed file is read and written somewhere, the log and the
 * database get a line, and the folder is listed. What is not as it was written, and every error, is told.
 *
 * /tmp/round says how far it is. Where there is /tmp/end it writes \`sums\` as sha256sum reads it, lets go, tells everything in /tmp/summary
 * (\`Summary\`) and waits to be deleted.
 */
const program = `
const { createHash, randomBytes, randomInt } = require('node:crypto');
const { DatabaseSync } = require('node:sqlite');
const fs = require('node:fs');
const folder = process.argv[1], KIB = 1024, errors = [], sums = new Map();
const sha256 = (data) => createHash('sha256').update(data).digest('hex');
const put = (file, data, at) => {
  for (let done = 0; done < data.length; ) done += fs.writeSync(file, data, done, data.length - done, at + done);
};
const take = (file, length, at) => {
  const data = Buffer.alloc(length);
  let done = 0;
  for (let count; done < length && (count = fs.readSync(file, data, done, length - done, at + done)) > 0; ) done += count;
  return data.subarray(0, done);
};
const wrong = (what) => void errors.push('round ' + round + ': ' + what);
let round = 0, longest = 0, size = 0;

const unnamed = fs.openSync(folder + '/unnamed', 'w+'), held = randomBytes(5000 * KIB + 321);
put(unnamed, held, 0);
fs.unlinkSync(folder + '/unnamed');
const log = fs.openSync(folder + '/log', 'w+');
const database = new DatabaseSync(folder + '/database');
database.exec('PRAGMA locking_mode = EXCLUSIVE; CREATE TABLE lines (number INTEGER PRIMARY KEY, sum TEXT)');

const write = (name, synced) => {
  const data = randomBytes(randomInt(1, 400 * KIB)), file = fs.openSync(folder + '/' + name, 'w');
  const half = data.length >> 1;
  put(file, data.subarray(0, half), 0);
  put(file, data.subarray(half), half);
  if (synced) fs.fsyncSync(file);
  fs.closeSync(file);
  sums.set(name, sha256(data));
};
const read = (name, direct) => {
  const file = fs.openSync(folder + '/' + name, fs.constants.O_RDONLY | (direct ? fs.constants.O_DIRECT : 0));
  if (sha256(take(file, 500 * KIB, 0)) !== sums.get(name)) wrong(name + ' has other content' + (direct ? ' (direct)' : ''));
  fs.closeSync(file);
};
const work = () => {
  const name = 'file-' + round;
  write('new', round % 2 === 0);
  fs.renameSync(folder + '/new', folder + '/' + name);
  sums.set(name, sums.get('new'));
  sums.delete('new');
  const names = [...sums.keys()], any = names[randomInt(names.length)];
  read(any, round % 2 === 0);
  if (round % 5 === 4) write(any, false);
  if (names.length > 100) {
    fs.unlinkSync(folder + '/' + names[0]);
    sums.delete(names[0]);
  }
  const listed = new Set(fs.readdirSync(folder));
  for (const each of sums.keys()) if (!listed.has(each)) wrong(each + ' is not listed');
  if (listed.size !== sums.size + [...listed].filter((each) => !each.startsWith('file-')).length) wrong('removed files are listed');

  const at = randomInt(held.length - 64 * KIB), piece = randomBytes(randomInt(1, 64 * KIB));
  put(unnamed, piece, at);
  piece.copy(held, at);
  const from = randomInt(held.length - 64 * KIB);
  if (!take(unnamed, 64 * KIB, from).equals(held.subarray(from, from + 64 * KIB))) wrong('the unnamed file has other content');
  if (fs.fstatSync(unnamed).nlink !== 0) wrong('the unnamed file has a name');

  const line = Buffer.from(round + ' ' + sums.get(name) + '\\n');
  put(log, line, size);
  if (!take(log, line.length, size).equals(line)) wrong('the log has another line');
  size += line.length;
  if (round % 3 === 0) fs.fsyncSync(log);
  database.prepare('INSERT INTO lines VALUES (?, ?)').run(round, sums.get(name) ?? '');
  if (database.prepare('SELECT count(*) AS count FROM lines').get().count !== round + 1) wrong('the database has other lines');
};
const end = () => {
  if (!take(unnamed, held.length + 1, 0).equals(held)) wrong('at the end the unnamed file has other content');
  fs.writeFileSync(folder + '/sums', [...sums].map(([name, sum]) => sum + '  ' + name + '\\n').join(''));
  database.close();
  for (const file of [unnamed, log]) fs.closeSync(file);
};
const guarded = (step) => {
  const began = Date.now();
  try {
    step();
  } catch (error) {
    wrong(error.message);
  }
  longest = Math.max(longest, Date.now() - began);
};
const next = () => {
  guarded(work);
  fs.writeFileSync('/tmp/round', String(++round));
  if (!fs.existsSync('/tmp/end') && errors.length < 20) return void setTimeout(next, 100);
  guarded(end);
  fs.writeFileSync('/tmp/summary.new', JSON.stringify({ rounds: round, files: sums.size, longest, errors }));
  fs.renameSync('/tmp/summary.new', '/tmp/summary');
};
next();
`;

/** PATH: prints "locked" where another program has locked the database, else what became of the attempt. */
const tryDatabase = `
const { DatabaseSync } = require('node:sqlite');
try {
  const database = new DatabaseSync(process.argv[1]);
  database.exec('BEGIN IMMEDIATE');
  console.log('taken');
} catch (error) {
  console.log(error.errcode === 5 ? 'locked' : error.message);
}
`;

/** PATH: prints what SQLite finds wrong in a database ("ok"), and how many lines there are. */
const checkDatabase = `
const { DatabaseSync } = require('node:sqlite');
const database = new DatabaseSync(process.argv[1], { readOnly: true });
console.log(database.prepare('PRAGMA integrity_check').get().integrity_check, database.prepare('SELECT count(*) AS n FROM lines').get().n);
`;

interface Summary {
  readonly rounds: number;
  readonly files: number;
  /** Milliseconds that the slowest round took. */
  readonly longest: number;
  readonly errors: readonly string[];
}

/** Starts the application on a volume; it waits until it may `begin`. It works in a folder of the pod's name. */
export async function startSteadfast({ environment, namespace }: World, name: string, volumes: string): Promise<Pod> {
  const script = `trap "exit 0" TERM; until test -e /tmp/begin; do sleep 0.1; done; mkdir /data/${name}; flock /data/${name}/lock node -e "$0" /data/${name} & wait; sleep 86400 & wait`;
  return await startPod({ name, namespace, image: environment.image, volumes, command: ['sh', '-euc', script, program] });
}

export const begin = (pod: Pod): Promise<string> => shell(pod, 'touch /tmp/begin');

const roundOf = async (pod: Pod): Promise<number> => Number(await shell(pod, 'cat /tmp/round 2> /dev/null || echo 0'));

/** Waits until the application has done `count` rounds more than it has now. */
export async function doesRounds(pod: Pod, count: number, seconds = 90): Promise<void> {
  const before = await roundOf(pod);
  await until(`${count} rounds more than ${before} are done`, seconds, async () => (await roundOf(pod)) >= before + count);
}

/** Another process of the pod gets neither lock. */
export async function locksAreHeld({ metadata }: Pod): Promise<void> {
  const { name, namespace } = metadata;
  const run = (...command: readonly string[]) =>
    tryKubectl(['exec', `--namespace=${namespace}`, name, '--container=app', '--', ...command]);
  const whole = await run('flock', '-n', `/data/${name}/lock`, 'echo', 'taken');
  assert.deepEqual([whole.status, whole.stdout], [1, ''], `the lock of flock: ${whole.stderr}`);
  const part = await run('node', '-e', tryDatabase, `/data/${name}/database`);
  assert.equal(part.stdout, 'locked\n', `the lock of fcntl: ${part.stderr}`);
}

/** Kills the client every 5 s for so long, whenever it is there to be killed. Resolves with how often it was. */
export async function killForSeconds({ nodes }: World, pod: Pod, seconds: number): Promise<number> {
  const end = Date.now() + seconds * 1000;
  let killed = 0;
  for (let at = Date.now(); at < end; at += 5000) {
    await new Promise((done) => setTimeout(done, Math.max(0, at - Date.now())));
    // The kubelet may be waiting before it starts the client again.
    if ((await statusOf(pod, clientContainer)).state.running === undefined) continue;
    await nodes.kill(pod, clientContainer).then(
      () => killed++,
      (error: unknown) => assert.match(String(error), /no process/),
    );
  }
  return killed;
}

/** Tells the application to end its work; it has met no error. Its pod stays. */
export async function ends(pod: Pod): Promise<Summary> {
  await shell(pod, 'touch /tmp/end');
  const text = await until('the application has ended its work', 90, () => inside(pod, ['cat', '/tmp/summary']));
  const summary = JSON.parse(text) as Summary;
  assert.deepEqual(summary.errors, []);
  assert.equal((await statusOf(pod, 'app')).restartCount, 0);
  return summary;
}

/** Deletes the pod, and checks in another one that everything is there. */
export async function everythingIsThere(world: World, pod: Pod, volumes: string, { rounds, files }: Summary): Promise<void> {
  const { name, namespace } = pod.metadata;
  await deletePod(pod, 120);
  const reader = await startPod({
    name: `${name}-reader`,
    namespace,
    image: world.environment.image,
    volumes: `${volumes}:ro`,
    command: idle,
  });
  const checked = await shell(reader, `cd /data/${name}; sha256sum -c sums 2>&1 || true`);
  const bad = checked.split('\n').filter((line) => line !== '' && !line.endsWith(': OK'));
  assert.deepEqual(bad, []);
  assert.equal(checked.trim().split('\n').length, files);
  const listed = (await shell(reader, `cd /data/${name}; ls -A`)).trim().split('\n');
  assert.equal(listed.filter((each) => each.startsWith('file-')).length, files);
  assert.ok(!listed.includes('unnamed') && !listed.some((each) => each.startsWith('.fuse')));
  const numbers = (await shell(reader, `cut -d ' ' -f 1 /data/${name}/log`)).trim().split('\n');
  assert.deepEqual(
    numbers,
    Array.from({ length: rounds }, (_, round) => String(round)),
  );
  const database = await inside(reader, ['node', '-e', checkDatabase, `/data/${name}/database`]);
  assert.equal(database, `ok ${rounds}\n`);
  await deletePod(reader);
}

/** Gives the client another image, and waits until that one serves. */
export async function changeImage(world: World, pod: Pod): Promise<void> {
  const { name, namespace } = pod.metadata;
  const before = await statusOf(pod, clientContainer);
  const image = `${clientContainer}=${world.environment.nextImage}`;
  await kubectl(['set', 'image', `pod/${name}`, image, `--namespace=${namespace}`]);
  await until('the client has the other image', 90, async () => {
    const { imageID, ready } = await statusOf(pod, clientContainer);
    return ready && imageID !== before.imageID;
  });
}
