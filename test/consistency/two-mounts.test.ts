/**
 * Close-to-open between two mounts of one volume: what one has closed, the other finds when it opens, whatever its kernel holds.
 * Attributes and names are allowed to be as old as their lifetimes; contents of a file that is opened are not.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  fstatSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { until } from '../cli/command.ts';
import { cannotMount, freshVolume, mountBeside, type Mounted } from '../mounted.ts';

const MIB = 1024 * 1024;
const hash = (data: Buffer): string => createHash('sha256').update(data).digest('hex');
const client = (mounted: Mounted): number =>
  (JSON.parse(readFileSync(join(mounted.folder, '.config'), 'utf8')) as { Pid: number }).Pid;
/** What is a name for people, without the virtual files. */
const names = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => !name.startsWith('.'))
    .toSorted();

/** Kills the client of a mount, and waits until another has taken over. */
async function replaceClient(mounted: Mounted): Promise<void> {
  const pid = client(mounted);
  process.kill(pid, 'SIGKILL');
  await until('another client serves', () => client(mounted) !== pid);
}

for (const engine of ['redis', 'sqlite', 'postgres', 'mysql'] as const)
  describe(`two mounts over ${engine}`, { skip: cannotMount }, () => {
    let one: Mounted;
    let two: Mounted;
    let serial = 0;

    before(async () => {
      one = await freshVolume(engine);
      two = await mountBeside(one, 'two');
    });
    after(async () => {
      await two?.[Symbol.asyncDispose]();
      await one?.[Symbol.asyncDispose]();
    });

    /** Both paths of a new name in the root. */
    const fresh = (): readonly [string, string] => {
      const name = `name-${serial++}`;
      return [join(one.folder, name), join(two.folder, name)];
    };

    test('what is written and closed on one is what is opened and read on the other, again and again', () => {
      const [here, there] = fresh();
      for (let round = 0; round < 40; round++) {
        // The same length each time, so that only the content can tell; the reader has the pages of the round before.
        const data = randomBytes(round % 2 === 0 ? 70_000 : 9000);
        const [writer, reader] = round % 3 === 0 ? [there, here] : [here, there];
        writeFileSync(writer, data);
        assert.equal(hash(readFileSync(reader)), hash(data), `round ${round}`);
        assert.equal(hash(readFileSync(writer)), hash(data), `round ${round}, the writer itself`);
      }
    });

    test('a part overwritten in place is seen by the next open', () => {
      const [here, there] = fresh();
      const data = randomBytes(6 * MIB);
      writeFileSync(here, data);
      assert.equal(hash(readFileSync(there)), hash(data));
      for (let round = 0; round < 10; round++) {
        const part = randomBytes(5000);
        const at = Math.floor((round / 10) * data.length) + 123;
        const file = openSync(round % 2 === 0 ? here : there, 'r+');
        writeSync(file, part, 0, part.length, at);
        closeSync(file);
        part.copy(data, at);
        assert.equal(hash(readFileSync(round % 2 === 0 ? there : here)), hash(data), `round ${round}`);
      }
    });

    test('fsync is enough for a reader that opens, without a close', () => {
      const [here, there] = fresh();
      const file = openSync(here, 'w');
      for (let round = 0; round < 10; round++) {
        writeSync(file, `line ${round}\n`);
        fsyncSync(file);
        assert.equal(readFileSync(there, 'utf8').split('\n').length, round + 2);
      }
      closeSync(file);
    });

    test('the size of an opened file is the newest: longer, shorter, and longer with zeros', () => {
      const [here, there] = fresh();
      writeFileSync(here, 'x'.repeat(10_000));
      const sizes = [10_000, 3, 50_000, 0, 7];
      for (const size of sizes) {
        truncateSync(here, size);
        const file = openSync(there, 'r');
        assert.equal(fstatSync(file).size, size);
        const buffer = Buffer.alloc(60_000, 1);
        assert.equal(readSync(file, buffer, 0, buffer.length, 0), size);
        closeSync(file);
      }
      assert.equal(readFileSync(there, 'latin1'), '\0'.repeat(7), 'what was cut off does not come back');
    });

    test('an append goes behind what the other has appended', () => {
      const [here, there] = fresh();
      writeFileSync(here, '');
      let expected = '';
      for (let round = 0; round < 20; round++) {
        appendFileSync(round % 2 === 0 ? here : there, `${round},`);
        expected += `${round},`;
        assert.equal(readFileSync(round % 2 === 0 ? there : here, 'utf8'), expected);
      }
    });

    test('a file renamed over another is what its name opens, and whoever has the old one open reads on in it', async () => {
      const [here, there] = fresh();
      const [hereNew] = fresh();
      writeFileSync(here, 'old content');
      const old = openSync(there, 'r');
      writeFileSync(hereNew, 'new content, longer');
      renameSync(hereNew, here);
      const buffer = Buffer.alloc(100);
      assert.equal(buffer.toString('utf8', 0, readSync(old, buffer, 0, 100, 0)), 'old content');
      closeSync(old);
      // The name may be known as it was for as long as names are trusted.
      await until('the name opens the new file', () => readFileSync(there, 'utf8') === 'new content, longer');
    });

    test('a listing shows what the other made, renamed and removed once names have expired', async () => {
      const [here, there] = fresh();
      mkdirSync(here);
      await until('the directory is there', () => names(two.folder).includes(here.slice(here.lastIndexOf('/') + 1)));
      assert.deepEqual(names(there), []);
      for (const name of ['a', 'b', 'c']) writeFileSync(join(here, name), name);
      await until('three are listed', () => names(there).length === 3);
      renameSync(join(here, 'a'), join(here, 'd'));
      unlinkSync(join(here, 'b'));
      linkSync(join(here, 'c'), join(here, 'e'));
      await until('the changes are listed', () => names(there).join() === 'c,d,e');
      await until('attributes have followed', () => statSync(join(there, 'c')).nlink === 2);
    });

    test('a file that is open and removed by its own mount is read to the end, though the other sees it gone', async () => {
      const [here, there] = fresh();
      const data = randomBytes(5 * MIB);
      writeFileSync(here, data);
      assert.equal(statSync(there).size, data.length);
      const file = openSync(here, 'r+');
      unlinkSync(here);
      await until('the other sees it gone', () => !names(two.folder).includes(there.slice(there.lastIndexOf('/') + 1)));
      writeSync(file, Buffer.from('still'), 0, 5, 0);
      fsyncSync(file);
      data.write('still');
      const read = Buffer.alloc(data.length);
      let done = 0;
      while (done < read.length) done += readSync(file, read, done, read.length - done, done);
      assert.equal(hash(read), hash(data));
      closeSync(file);
    });

    test('many small files made on one are whole on the other, and so are those made back', () => {
      const [here, there] = fresh();
      mkdirSync(here);
      const expected = new Map<string, string>();
      for (let index = 0; index < 300; index++) {
        const name = `file-${index}`;
        const text = `${name} `.repeat(index);
        writeFileSync(join(index % 2 === 0 ? here : there, name), text);
        expected.set(name, text);
      }
      for (const [name, text] of expected) {
        assert.equal(readFileSync(join(here, name), 'utf8'), text);
        assert.equal(readFileSync(join(there, name), 'utf8'), text);
      }
    });

    test('both append to files of their own at once, each killed and taken over in between, and no line is lost', async () => {
      const [hereA, thereA] = fresh();
      const [hereB, thereB] = fresh();
      const lines = 150;
      const write = async (path: string, mark: string): Promise<void> => {
        for (let line = 0; line < lines; line++) await appendFile(path, `${mark} ${line}\n`);
      };
      const killed = (async () => {
        await replaceClient(one);
        await replaceClient(two);
      })();
      await Promise.all([write(hereA, 'one'), write(thereB, 'two'), killed]);
      const expected = (mark: string): string => Array.from({ length: lines }, (_, line) => `${mark} ${line}\n`).join('');
      for (const path of [hereA, thereA]) assert.equal(readFileSync(path, 'utf8'), expected('one'));
      for (const path of [hereB, thereB]) assert.equal(readFileSync(path, 'utf8'), expected('two'));
    });

    test('a client that took over shows what the other has written since, not what the kernel kept', async () => {
      const [here, there] = fresh();
      writeFileSync(here, 'first'.repeat(1000));
      assert.equal(readFileSync(there, 'utf8'), 'first'.repeat(1000));
      const open = openSync(there, 'r');
      await replaceClient(two);
      writeFileSync(here, 'other'.repeat(1000));
      assert.equal(readFileSync(there, 'utf8'), 'other'.repeat(1000));
      closeSync(open);
      assert.equal(readFileSync(there, 'utf8'), 'other'.repeat(1000));
    });

    test('bytes that one writes and has not synced are stored before its file is read elsewhere after its client was replaced', async () => {
      const [here, there] = fresh();
      const file = openSync(here, 'w');
      const data = randomBytes(3 * MIB);
      writeSync(file, data);
      await replaceClient(one);
      fsyncSync(file);
      assert.equal(hash(readFileSync(there)), hash(data));
      closeSync(file);
    });
  });
