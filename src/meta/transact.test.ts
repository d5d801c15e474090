import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../lib/clock.ts';
import { FsError } from '../lib/errors.ts';
import { ino, type Ino, ROOT_INO } from '../lib/int64.ts';
import { systemRandom } from '../lib/random.ts';
import type { CommitResult, EntryValue, MetaEngine, Read, Transaction } from './engine.ts';
import { Guesses } from './guesses.ts';
import { type Decide, Transactor } from './transact.ts';
import { plainFile } from './testing/sample.ts';
import { type Attr, NodeType } from './types.ts';

const attr: Attr = plainFile;
const name = Buffer.from('name');
const file = ino(2);

/** An engine of one entry and some nodes, which counts round trips and can be changed between two of them. */
class TinyEngine {
  readonly nodes = new Map<Ino, Attr>();
  entry: EntryValue | undefined;
  nonEmpty = false;
  reads = 0;
  commits = 0;
  /** Called before each commit is looked at. */
  meanwhile: () => void = () => {};

  async read(reads: readonly Read[]): Promise<unknown[]> {
    this.reads++;
    return reads.map((read) => (read.kind === 'node' ? this.nodes.get(read.ino) : undefined));
  }

  async lookup(): Promise<{ value: EntryValue; attr: Attr | undefined } | undefined> {
    this.reads++;
    return this.entry && { value: this.entry, attr: this.nodes.get(this.entry.ino) };
  }

  async commit({ checks, writes }: Transaction): Promise<CommitResult> {
    this.commits++;
    this.meanwhile();
    const current = checks.map((check) => {
      if (check.kind === 'node') return this.nodes.get(check.ino);
      return check.kind === 'entry' ? this.entry : undefined;
    });
    const failed = checks.flatMap((check, index) => {
      if (check.kind === 'emptyDirectory') return this.nonEmpty ? [index] : [];
      if (check.kind !== 'node' && check.kind !== 'entry') return [];
      return JSON.stringify(check.expect) === JSON.stringify(current[index]) ? [] : [index];
    });
    if (failed.length > 0) return { ok: false, failed, current };
    for (const write of writes) if (write.kind === 'putNode') this.nodes.set(write.ino, write.attr);
    return { ok: true, results: writes.map(() => 0) };
  }
}

function setUp(): { engine: TinyEngine; guesses: Guesses; run: <T>(decide: Decide<T>) => Promise<T> } {
  const engine = new TinyEngine();
  engine.nodes.set(file, attr);
  engine.entry = { type: NodeType.File, ino: file };
  const guesses = new Guesses();
  const transactor = new Transactor(engine as unknown as MetaEngine, guesses, systemClock, systemRandom);
  return { engine, guesses, run: async (decide) => (await transactor.run(decide)).value };
}

const chmod =
  (mode: number): Decide<number> =>
  (view) => {
    const before = view.node(file, 'all');
    if (!before) throw new FsError('ENOENT');
    return { writes: [{ kind: 'putNode', ino: file, attr: { ...before, mode } }], value: before.mode };
  };

test('what is known is only checked: one round trip', async () => {
  const { engine, guesses, run } = setUp();
  guesses.setNode(file, attr);
  assert.equal(await run(chmod(0o600)), 0o644);
  assert.equal(await run(chmod(0o640)), 0o600);
  assert.deepEqual([engine.reads, engine.commits], [0, 2]);
});

test('what is not known is read first', async () => {
  const { engine, run } = setUp();
  assert.equal(await run(chmod(0o600)), 0o644);
  assert.deepEqual([engine.reads, engine.commits], [1, 1]);
});

test('a wrong guess costs one more round trip, and nothing of it is written', async () => {
  const { engine, guesses, run } = setUp();
  guesses.setNode(file, { ...attr, uid: 77 });
  await run(chmod(0o600));
  assert.deepEqual(engine.nodes.get(file), { ...attr, mode: 0o600 });
  assert.deepEqual([engine.reads, engine.commits], [0, 2]);
});

test('no error is made of a guess', async () => {
  const { guesses, run } = setUp();
  guesses.setNode(file, { ...attr, mode: 0 });
  const needsMode: Decide<string> = (view) => {
    if (view.node(file, 'all')?.mode === 0) throw new FsError('EACCES');
    return { writes: [], value: 'allowed' };
  };
  assert.equal(await run(needsMode), 'allowed');
});

test('an error on the ground of fresh values is the answer', async () => {
  const { engine, run } = setUp();
  engine.nodes.delete(file);
  await assert.rejects(run(chmod(0)), { code: 'ENOENT' });
  assert.equal(engine.commits, 0);
});

test('that nothing is to be done is not decided on a guess either', async () => {
  const { guesses, run } = setUp();
  guesses.setNode(file, { ...attr, mode: 0o600 });
  const look: Decide<number | undefined> = (view) => ({ writes: [], value: view.node(file, 'all')?.mode });
  assert.equal(await run(look), 0o644);
});

test('a name that is guessed to be absent is found where it exists', async () => {
  const { engine, run } = setUp();
  const make: Decide<string> = (view) => {
    if (view.entry(ROOT_INO, name, 'absent')) throw new FsError('EEXIST');
    return { writes: [{ kind: 'putNode', ino: ino(9), attr }], value: 'made' };
  };
  await assert.rejects(run(make), { code: 'EEXIST' });
  assert.deepEqual([engine.reads, engine.commits], [0, 1]);
  engine.entry = undefined;
  assert.equal(await run(make), 'made');
});

test('changes by others between every two tries are survived, a few times and not for ever', async () => {
  const { engine, run } = setUp();
  let changes = 0;
  engine.meanwhile = () => {
    if (changes++ < 8) engine.nodes.set(file, { ...attr, uid: changes });
  };
  await run(chmod(0o600));
  assert.deepEqual(engine.nodes.get(file), { ...attr, mode: 0o600, uid: 8 });
});

test('another requirement fails with its own error, but only when what it rests on has not changed', async () => {
  const { engine, guesses, run } = setUp();
  guesses.setNode(file, { ...attr, uid: 5 });
  engine.nonEmpty = true;
  const asked: (number | undefined)[] = [];
  const remove: Decide<undefined> = (view) => {
    asked.push(view.node(file, 'all')?.uid);
    view.requireEmpty(file);
    return { writes: [{ kind: 'removeNode', ino: file }], value: undefined };
  };
  await assert.rejects(run(remove), { code: 'ENOTEMPTY' });
  assert.deepEqual(asked, [5, 0]);
});
