/** One run of random operations: each is done by the volume and by the model, then the two are compared as a whole. */
import assert from 'node:assert/strict';
import { type ErrnoName, FsError } from '../../src/lib/errors.ts';
import { type Ino, ino, isTrash, TRASH_INO } from '../../src/lib/int64.ts';
import { type Attr, CHUNK_SIZE, type Meta, NodeType, RenameFlag } from '../../src/meta/types.ts';
import { NAMES, type Step } from './random-steps.ts';
import { CELL, CELLS_PER_CHUNK, type ReferenceFs, ROOT, ZERO } from './reference-fs.ts';
import { name, ROOT_USER, type TestVolume } from './volume.ts';

/** The errno of a call, or what it answered. */
async function outcome<T>(
  call: Promise<T>,
): Promise<{ readonly code: ErrnoName } | { readonly code: undefined; readonly value: T }> {
  try {
    return { code: undefined, value: await call };
  } catch (error) {
    if (error instanceof FsError) return { code: error.code };
    throw error;
  }
}

/** Nanoseconds since the epoch. */
export const toNs = (sec: number, nsec: number): bigint => BigInt(sec) * 1_000_000_000n + BigInt(nsec);

export class Run {
  readonly #volume: TestVolume;
  readonly #meta: Meta;
  readonly #model: ReferenceFs;
  /** Slices that were written, by id. */
  readonly #written = new Map<number, number>();
  /** Files where a compaction of nothing but zeros left a byte of data, or that were copied from such. */
  readonly #blurred = new Set<number>();

  constructor(volume: TestVolume, model: ReferenceFs) {
    this.#volume = volume;
    this.#meta = volume.meta;
    this.#model = model;
  }

  #reachable(choose: (type: NodeType) => boolean): readonly number[] {
    const found: number[] = [];
    const visit = (ino: number): void => {
      const node = this.#model.node(ino);
      if (choose(node.type) && !found.includes(ino)) found.push(ino);
      for (const child of node.entries.values()) visit(child);
    };
    visit(ROOT);
    return found;
  }

  #directory(choice: number): number {
    const all = this.#reachable((type) => type === NodeType.Directory);
    return all[choice % all.length]!;
  }

  /** Any node with a name, or an unlinked one that is open. */
  #node(choice: number): number {
    const orphans = [...this.#model.nodes].filter(([, node]) => node.nlink === 0).map(([ino]) => ino);
    const all = [...this.#reachable(() => true), ...orphans];
    return all[choice % all.length]!;
  }

  #file(choice: number): number | undefined {
    const files = [...this.#model.nodes]
      .filter(([, node]) => node.type === NodeType.File && !this.#inTrash(node.parent))
      .map(([ino]) => ino);
    return files.length === 0 ? undefined : files[choice % files.length];
  }

  #inTrash(parent: number): boolean {
    return !this.#model.nodes.has(parent);
  }

  #trashed(ino: number): boolean {
    return this.#model.trash.some((each) => each.ino === ino);
  }

  async step(step: Step): Promise<void> {
    const { clock } = this.#volume;
    clock.ns += 1_000_000_001n;
    this.#model.now = clock.ns;
    await this.#apply(step);
    await this.compare();
  }

  /** The call must answer what the model foresees; then the model does it as well. */
  async #expect<T>(foreseen: ErrnoName | undefined, call: Promise<T>, apply: (value: T) => void): Promise<void> {
    const result = await outcome(call);
    assert.equal(result.code, foreseen);
    if (result.code === undefined) apply(result.value);
  }

  async #apply(step: Step): Promise<void> {
    const meta = this.#meta;
    const model = this.#model;
    const ctx = ROOT_USER;
    switch (step.op) {
      case 'mkdir':
      case 'create':
      case 'tmpfile':
      case 'mknod':
      case 'symlink': {
        const dir = this.#directory(step.dir);
        const text = NAMES[step.name]!;
        const [parent, bytes] = [ino(dir), name(text)];
        const foreseen = model.canAdd(dir, text);
        const gid = 0;
        const setgid = (model.node(dir).mode & 0o2000) !== 0;
        if (step.op === 'mkdir')
          return this.#expect(foreseen, meta.mkdir(ctx, parent, bytes, step.mode, 0o022), (made) => {
            model.add(dir, text, made.ino, NodeType.Directory, (step.mode & ~0o022) | (setgid ? 0o2000 : 0));
          });
        if (step.op === 'tmpfile')
          return this.#expect(undefined, meta.tmpfile(ctx, parent, step.mode, 0), (made) =>
            model.addUnnamed(dir, made.ino, step.mode),
          );
        if (step.op === 'symlink')
          return this.#expect(foreseen, meta.symlink(ctx, parent, bytes, name('to/\xe9')), (made) => {
            model.add(dir, text, made.ino, NodeType.Symlink, 0o777, { target: 'to/\xe9' });
          });
        if (step.op === 'mknod')
          return this.#expect(foreseen, meta.mknod(ctx, parent, bytes, NodeType.CharDevice, step.mode, 0, 259), (made) => {
            model.add(dir, text, made.ino, NodeType.CharDevice, step.mode, { rdev: 259 });
          });
        return this.#expect(foreseen, meta.create(ctx, parent, bytes, step.mode, 0, true), (made) => {
          model.add(dir, text, made.ino, NodeType.File, step.mode);
          model.node(made.ino).gid = gid;
          model.open(made.ino);
        });
      }
      case 'unlink':
      case 'rmdir': {
        const dir = this.#directory(step.dir);
        const text = NAMES[step.name]!;
        if (step.op === 'unlink')
          return this.#expect(model.canUnlink(dir, text), meta.unlink(ctx, ino(dir), name(text)), () => model.unlink(dir, text));
        return this.#expect(model.canRmdir(dir, text), meta.rmdir(ctx, ino(dir), name(text)), () => model.rmdir(dir, text));
      }
      case 'link': {
        const [node, dir, text] = [this.#node(step.node), this.#directory(step.dir), NAMES[step.name]!];
        const foreseen = model.canLink(node, dir, text);
        return this.#expect(foreseen, meta.link(ctx, ino(node), ino(dir), name(text)), () => model.link(node, dir, text));
      }
      case 'rename': {
        const [dir, text, toDir, toText] = [
          this.#directory(step.dir),
          NAMES[step.name]!,
          this.#directory(step.toDir),
          NAMES[step.toName]!,
        ];
        const flags = { none: 0, noReplace: RenameFlag.NoReplace, exchange: RenameFlag.Exchange }[step.flag];
        return this.#expect(
          model.canRename(dir, text, toDir, toText, step.flag),
          meta.rename(ctx, ino(dir), name(text), ino(toDir), name(toText), flags),
          () => model.rename(dir, text, toDir, toText, step.flag === 'exchange'),
        );
      }
      case 'setattr': {
        const node = this.#node(step.node);
        const { mode, uid, mtime } = step;
        // What a new owner does to special bits is the conformance suite's.
        const owner = uid === undefined || (model.node(node).mode | (mode ?? 0)) & 0o6000 ? {} : { uid };
        const set = { ...(mode === undefined ? {} : { mode }), ...owner };
        const time =
          mtime === undefined ? {} : { mtime: { sec: Number(mtime / 1_000_000_000n), nsec: Number(mtime % 1_000_000_000n) } };
        return this.#expect(undefined, meta.setattr(ctx, ino(node), { ...set, ...time }), () =>
          model.setattr(node, { ...set, ...(mtime === undefined ? {} : { mtime }) }),
        );
      }
      case 'truncate': {
        const node = this.#node(step.node);
        return this.#expect(model.isFile(node) ? undefined : 'EPERM', meta.truncate(ctx, ino(node), step.cells * CELL), () =>
          model.truncate(node, step.cells),
        );
      }
      case 'fallocate': {
        const node = this.#node(step.node);
        const { mode, from, count } = step;
        return this.#expect(
          model.isFile(node) ? undefined : 'EPERM',
          meta.fallocate(ctx, ino(node), mode, from * CELL, count * CELL),
          () => model.fallocate(node, from, count, (mode & 1) === 0, mode > 1),
        );
      }
      case 'write': {
        const node = this.#node(step.node);
        const chunk = Math.floor(step.from / CELLS_PER_CHUNK);
        const pos = step.from % CELLS_PER_CHUNK;
        const count = Math.min(step.count, CELLS_PER_CHUNK - pos);
        const id = await meta.newSliceId();
        const mtime = this.#volume.clock.ns - 500n;
        return this.#expect(
          model.isFile(node) ? undefined : 'EPERM',
          meta.writeSlice(ctx, ino(node), chunk, pos * CELL, { id, size: count * CELL }, mtime),
          () => {
            this.#written.set(id, count * CELL);
            model.write(node, step.from, count, id, mtime);
          },
        );
      }
      case 'copy': {
        const [source, target] = [this.#node(step.node), this.#node(step.toNode)];
        const { from, to, count } = step;
        const overlap = source === target && Math.abs(from - to) < count;
        const foreseen = overlap || !model.isFile(source) || !model.isFile(target) ? 'EINVAL' : undefined;
        return this.#expect(
          foreseen,
          meta.copyFileRange(ctx, ino(source), from * CELL, ino(target), to * CELL, count * CELL),
          ({ copied }) => {
            assert.equal(copied, model.copy(source, from, target, to, count) * CELL);
            if (this.#blurred.has(source)) this.#blurred.add(target);
          },
        );
      }
      case 'compact':
        return this.#compact(this.#file(step.node), step.chunk);
      case 'open': {
        const node = this.#file(step.node);
        if (node === undefined || (model.node(node).nlink === 0 && model.node(node).opens === 0)) return;
        return this.#expect(undefined, meta.open(ctx, ino(node), 0), () => model.open(node));
      }
      case 'release': {
        const open = [...model.nodes].filter(([, node]) => node.opens > 0).map(([ino]) => ino);
        const node = open[step.node % Math.max(1, open.length)];
        if (node === undefined) return;
        return this.#expect(undefined, meta.release(ino(node)), () => model.release(node));
      }
      case 'setxattr':
      case 'removexattr': {
        const node = this.#node(step.node);
        const key = `user.${step.name}`;
        const { xattrs } = model.node(node);
        if (step.op === 'removexattr')
          return this.#expect(
            xattrs.has(key) ? undefined : 'ENODATA',
            meta.removexattr(ctx, ino(node), key),
            () => void xattrs.delete(key),
          );
        const foreseen =
          step.how === 'create' && xattrs.has(key)
            ? 'EEXIST'
            : step.how === 'replace' && !xattrs.has(key)
              ? 'ENODATA'
              : undefined;
        const value = `value ${model.now}`;
        return this.#expect(
          foreseen,
          meta.setxattr(ctx, ino(node), key, name(value), { create: step.how === 'create', replace: step.how === 'replace' }),
          () => void xattrs.set(key, value),
        );
      }
    }
  }

  async #compact(node: number | undefined, chunk: number): Promise<void> {
    if (node === undefined) return;
    const plan = await this.#meta.planCompaction(ino(node), chunk);
    if (!plan) return;
    const id = await this.#meta.newSliceId();
    assert.ok(await this.#meta.commitCompaction(plan, { id, size: plan.size }));
    this.#written.set(id, plan.size);
    if (plan.size % CELL !== 0) this.#blurred.add(node);
    // What is zeros is now zeros of a slice; the model calls it as the volume does.
    if (plan.size % CELL === 0 && plan.pos % CELL === 0)
      this.#model.compacted(node, chunk * CELLS_PER_CHUNK + plan.pos / CELL, plan.size / CELL, id);
  }

  async #content(ino: Ino, length: number): Promise<readonly string[]> {
    const cells: string[] = Array.from({ length: length / CELL }, () => ZERO);
    for (let chunk = 0; chunk * CHUNK_SIZE < length; chunk++)
      for (const piece of await this.#meta.readChunk(ino, chunk)) {
        if (piece.len % CELL !== 0) continue; // one byte of zeros, from a compaction of nothing but zeros
        for (let at = 0; at < piece.len; at += CELL) {
          const cell = (chunk * CHUNK_SIZE + piece.pos + at) / CELL;
          if (cell < cells.length) cells[cell] = piece.id === 0 ? ZERO : `${piece.id}:${(piece.off + at) / CELL}`;
        }
      }
    return cells;
  }

  /** Data and holes, as lseek tells them from the first cell that is of the other kind. */
  async #compareHoles(node: number, cells: readonly string[]): Promise<void> {
    if (this.#blurred.has(node)) return;
    for (const from of new Set([0, Math.floor(cells.length / 2)])) {
      if (from >= cells.length) continue;
      const data = cells.findIndex((cell, at) => at >= from && cell !== ZERO);
      const hole = cells.findIndex((cell, at) => at >= from && cell === ZERO);
      const seek = (want: 'data' | 'hole') => outcome(this.#meta.seek(ROOT_USER, ino(node), from * CELL, want));
      assert.deepEqual(await seek('data'), data < 0 ? { code: 'ENXIO' } : { code: undefined, value: data * CELL });
      assert.deepEqual(await seek('hole'), { code: undefined, value: (hole < 0 ? cells.length : hole) * CELL });
    }
  }

  async #compareNode(inode: number, attr: Attr): Promise<void> {
    const node = this.#model.node(inode);
    const { mtime, ctime } = node;
    const seen = {
      type: attr.type,
      mode: attr.mode,
      uid: attr.uid,
      gid: attr.gid,
      nlink: attr.nlink,
      length: attr.length,
      rdev: attr.rdev,
      mtime: toNs(attr.mtime, attr.mtimensec),
      ctime: toNs(attr.ctime, attr.ctimensec),
    };
    const wanted = {
      type: node.type,
      mode: node.mode,
      uid: node.uid,
      gid: node.gid,
      nlink: node.nlink,
      length:
        this.#model.length(node) - (node.type === NodeType.Symlink ? Buffer.byteLength(node.target) - node.target.length : 0),
      rdev: node.rdev,
      mtime,
      ctime: ctime ?? seen.ctime,
    };
    node.ctime ??= seen.ctime;
    assert.deepEqual(seen, wanted, `node ${inode}`);
    if (node.type === NodeType.Symlink)
      assert.equal((await this.#meta.readlink(ROOT_USER, ino(inode))).toString('latin1'), node.target);
    if (node.type === NodeType.File) {
      assert.deepEqual(await this.#content(ino(inode), attr.length), node.cells, `content of ${inode}`);
      await this.#compareHoles(inode, node.cells);
    }
    const xattrs = new Map<string, string>();
    for (const key of await this.#meta.listxattr(ROOT_USER, ino(inode)))
      xattrs.set(key, (await this.#meta.getxattr(ROOT_USER, ino(inode), key)).toString('latin1'));
    assert.deepEqual(xattrs, node.xattrs);
  }

  /** The whole tree, and what is open without a name. */
  async compare(): Promise<void> {
    const linked = new Map<number, Map<number, number>>();
    const visit = async (inode: number, attr: Attr, parent: number): Promise<void> => {
      await this.#compareNode(inode, attr);
      if (attr.parent !== 0) assert.equal(attr.parent, parent, `parent of ${inode}`);
      else {
        const names = linked.get(inode) ?? new Map<number, number>();
        linked.set(inode, names.set(parent, (names.get(parent) ?? 0) + 1));
      }
      if (attr.type !== NodeType.Directory) return;
      const found = new Map<string, number>();
      const children: (readonly [number, Attr])[] = [];
      for await (const batch of this.#meta.readdir(ROOT_USER, ino(inode), true))
        for (const entry of batch) {
          assert.ok(entry.attr);
          found.set(entry.name.toString('latin1'), entry.ino);
          children.push([entry.ino, entry.attr]);
        }
      assert.deepEqual(found, this.#model.node(inode).entries);
      for (const [child, attr] of children) await visit(child, attr, inode);
    };
    await visit(ROOT, await this.#meta.getattr(ROOT_USER, ino(ROOT)), ROOT);
    for (const [inode, names] of linked) {
      const [parents] = await this.#volume.engine.read([{ kind: 'parents', ino: ino(inode) }]);
      // One of the names may lie in the trash.
      assert.deepEqual(new Map([...parents].filter(([parent]) => !isTrash(parent))), names, `parents of ${inode}`);
    }
    for (const [inode, node] of this.#model.nodes)
      if (node.nlink === 0) await this.#compareNode(inode, await this.#meta.getattr(ROOT_USER, ino(inode)));
    for (const { name: text, ino: inode } of this.#model.trash) {
      const attr = await this.#meta.getattr(ROOT_USER, ino(inode));
      assert.ok(this.#trashed(inode) && attr.nlink > 0, text);
    }
  }

  /** Once all is closed: counters, usage of directories, references of slices. */
  async finish(): Promise<void> {
    for (const [inode, node] of this.#model.nodes)
      for (let { opens } = node; opens > 0; opens--) {
        await this.#meta.release(ino(inode));
        this.#model.release(inode);
      }
    await this.#meta.close();
    const { engine } = this.#volume;
    const usage = this.#model.usage();
    // An hour's directory is made before it is known whether something goes there.
    const [hours] = await engine.read([{ kind: 'entryCount', ino: TRASH_INO }]);
    assert.ok(this.#model.keepsTrash ? hours <= 1 : hours === 0);
    const reader = await this.#volume.another({ readOnly: true });
    assert.deepEqual(
      await reader.usage(),
      { bytes: usage.bytes + hours * 4096, inodes: usage.inodes + hours },
      'usage of the volume',
    );
    for (const inode of this.#reachable((type) => type === NodeType.Directory)) {
      const [stat] = await engine.read([{ kind: 'dirStat', ino: ino(inode) }]);
      const wanted = this.#model.dirStat(inode);
      // The root has no record until something changes in it.
      if (stat || wanted.inodes > 0) assert.deepEqual(stat, wanted, `usage of directory ${inode}`);
    }
    const live = new Set<number>();
    for await (const slice of reader.slices()) {
      assert.equal(slice.size, this.#written.get(slice.id), `size of slice ${slice.id}`);
      live.add(slice.id);
    }
    for (const { id } of this.#volume.deleted) assert.ok(!live.has(id), `slice ${id} is in use and was deleted`);
    if (!this.#model.keepsTrash) {
      const deleted = new Set(this.#volume.deleted.map(({ id }) => id));
      for (const id of this.#written.keys())
        assert.ok(live.has(id) || deleted.has(id), `nothing refers to slice ${id} and it stays`);
    }
    const seen = new Set([...this.#model.nodes.values()].flatMap((node) => node.cells).filter((cell) => cell !== ZERO));
    for (const cell of seen) assert.ok(live.has(Number(cell.split(':')[0])), `the slice of ${cell} is gone`);
    assert.deepEqual(await engine.scanDelfiles(2 ** 40, 1000), [], 'the data of removed files is deleted');
  }
}
