/**
 * One life of a volume against a model of plain bytes. Two clients work on the same few files and keep to close-to-open: a client
 * opens a file anew after the other one has changed it, and has flushed before the other one comes. One of them dies and is
 * followed, again and again.
 *
 * It asserts: every read, and every length that the kernel is told, is what the model has, at any moment, also while data is being
 * committed; an acknowledged write outlives its client; an error is told, and what it is told of is then not there; a client
 * that followed an orderly end has nothing to repeat; in the end a third client reads the same, the store holds every block that is
 * named, and, where nothing was lost on the way, no other.
 */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { FsError } from '../../src/lib/errors.ts';
import { type Ino, ROOT_INO } from '../../src/lib/int64.ts';
import { compactChunk } from '../../src/vfs/compactor.ts';
import { BLOCK, type Client, type TestVolume } from './clients.ts';
import { refused } from './kernel.ts';
import { REGION, REGIONS, SparseBytes } from './sparse.ts';

const kinds = [
  'write',
  'write',
  'write',
  'append',
  'scatter',
  'scatter',
  'read',
  'truncate',
  'fallocate',
  'copy',
  'copy',
  'flush',
  'fsync',
  'open',
  'close',
  'unlink',
  'rename',
  'look',
  'race',
  'compact',
  'idle',
  'crash',
  'handOver',
  'storeFails',
  'metaFails',
  'metaForgets',
] as const;

export interface Step {
  readonly kind: (typeof kinds)[number];
  readonly client: number;
  readonly file: number;
  readonly region: number;
  readonly at: number;
  readonly size: number;
  readonly seed: number;
}

export const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom(...kinds),
  // The first client is the one that dies.
  client: fc.constantFrom(0, 0, 0, 1),
  file: fc.constantFrom(0, 0, 1, 2),
  region: fc.constantFrom(0, 0, 0, 1, 2),
  at: fc.oneof(fc.nat(REGION - 1), fc.constantFrom(0, 1, BLOCK - 1, BLOCK, BLOCK + 1, REGION / 2 - 1, REGION / 2)),
  size: fc.oneof(fc.integer({ min: 1, max: 200_000 }), fc.constantFrom(1, BLOCK, 2 * BLOCK, 4096)),
  seed: fc.nat(),
});

interface ModelFile {
  readonly bytes: SparseBytes;
  readonly ino: Ino;
  /** Counts changes; a handle that was opened before another client's change is opened anew. */
  version: number;
  /** Who wrote last and has perhaps not flushed. */
  writer: number;
}

interface OpenHandle {
  readonly file: ModelFile;
  readonly handle: number;
  version: number;
}

const PUNCH_HOLE = 3;
const KEEP_SIZE = 1;
const ZERO_RANGE = 0x10;

/** Bytes that are never zero, so that a hole cannot pass for them. */
function content(length: number, seed: number): Buffer {
  const data = Buffer.allocUnsafe(length);
  for (let at = 0, state = seed | 1; at < length; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    data[at] = 1 + ((state >>> 24) % 255);
  }
  return data;
}

export class Run {
  readonly #volume: TestVolume;
  readonly #mounts: readonly { start(): Promise<Client> }[];
  readonly #clients: Client[] = [];
  readonly #names = new Map<string, ModelFile>();
  readonly #open: OpenHandle[][] = [[], []];
  /** Blocks may lie in the store that nobody names. */
  #litter = false;

  constructor(volume: TestVolume) {
    this.#volume = volume;
    const options = { journalBytes: 300_000, bufferBytes: 24 * BLOCK };
    this.#mounts = [volume.mount(options), volume.mount(options)];
  }

  async start(): Promise<void> {
    for (const mount of this.#mounts) this.#clients.push(await mount.start());
  }

  async take(step: Step): Promise<void> {
    const name = `f${step.file}`;
    const file = this.#names.get(name) ?? (await this.#create(name, step.client));
    const offset = (REGIONS[step.region] ?? 0) + step.at;
    const size = Math.min(step.size, REGION - step.at);
    switch (step.kind) {
      case 'write':
        return this.#write(file, step.client, offset, content(size, step.seed));
      case 'scatter':
        return this.#scatter(file, step.client, step.seed, size);
      case 'append': {
        const end = file.bytes.length;
        const room = REGIONS.some((start) => end >= start && end + size <= start + REGION);
        return room ? this.#write(file, step.client, end, content(size, step.seed)) : undefined;
      }
      case 'read':
        return this.#check(file, step.client, offset, step.size);
      case 'truncate': {
        await this.#turn(file, step.client);
        const attr = await this.#kernel(step.client).setattr(file.ino, { size: offset });
        assert.equal(attr.size, offset);
        file.bytes.truncate(offset);
        return this.#changed(file, step.client);
      }
      case 'fallocate':
        return this.#fallocate(file, step, offset, step.seed % 5 === 0 ? 70 * 1024 * 1024 : size);
      case 'copy':
        return this.#copy(file, step, offset, size);
      case 'flush':
      case 'fsync': {
        const { handle } = await this.#handle(file, step.client);
        return this.#kernel(step.client)[step.kind](file.ino, handle);
      }
      case 'open':
        return void (await this.#openFile(file, step.client));
      case 'close':
        return this.#close(file, step.client, step.seed);
      case 'unlink':
        return this.#unlink(name, file, step.client);
      case 'rename':
        return this.#rename(name, file, step);
      case 'look':
        return this.#look(name, file, step.client);
      case 'race':
        return this.#race(name, file, step.client, offset, content(size, step.seed));
      case 'compact': {
        const { meta, chunks } = this.#client(step.client);
        await this.#flushOthers(file, -1);
        // A compaction in the background may have been there first, and have deleted what this one reads.
        await compactChunk(meta, chunks, file.ino, step.region).catch((error: unknown) => {
          if (!(error instanceof FsError && error.code === 'ENOENT')) throw error;
        });
        return;
      }
      case 'idle':
        // Old and idle slices are stored meanwhile.
        return new Promise((resolve) => setTimeout(resolve, 40));
      case 'crash':
        return this.#crash(step.seed);
      case 'handOver':
        await this.#client(0).close(true);
        this.#clients[0] = await this.#startAgain();
        assert.equal(this.#client(0).recovered.writes, 0, 'after an orderly end nothing is left to be repeated');
        return;
      default:
        return this.#fail(step.kind, file, step.client, offset, content(size, step.seed));
    }
  }

  /** Ends the clients and looks at what is left. */
  async finish(): Promise<void> {
    for (const client of [0, 1]) for (const file of new Set(this.#names.values())) await this.#checkAll(file, client);
    for (const [client, handles] of this.#open.entries())
      for (const { file, handle } of handles.splice(0)) {
        await this.#kernel(client).flush(file.ino, handle);
        await this.#kernel(client).release(file.ino, handle);
      }
    for (const client of this.#clients) {
      await client.vfs.flushAll();
      assert.equal(client.vfs.openHandles, 0, 'no handle is left');
      await client.close();
      assert.equal(client.chunks.dirtyBytes, 0);
      assert.equal(client.chunks.stats()['used_buffer_size_bytes'], 0);
    }
    const third = await this.#volume.start();
    for (const [name, file] of this.#names) {
      const { attr } = await third.kernel.lookup(ROOT_INO, name);
      assert.equal(attr.ino, file.ino);
      assert.equal(attr.size, file.bytes.length);
      const { handle } = await third.kernel.open(file.ino, 0);
      for (const start of REGIONS) this.#same(await third.kernel.read(file.ino, handle, start, REGION), file, start, REGION);
    }
    const named = new Set<string>();
    for await (const { id, size } of third.meta.slices())
      for (let block = 0; block * BLOCK < size; block++) named.add(`${id}_${block}_${Math.min(BLOCK, size - block * BLOCK)}`);
    const stored = new Set((await this.#volume.keys()).map((key) => key.split('/').at(-1) ?? ''));
    assert.deepEqual(
      [...named].filter((key) => !stored.has(key)),
      [],
      'every block that is named is there',
    );
    if (!this.#litter)
      assert.deepEqual(
        [...stored].filter((key) => !named.has(key)),
        [],
        'no other block is there',
      );
    await third.close();
  }

  #client(index: number): Client {
    const client = this.#clients[index];
    if (!client) throw new Error(`there is no client ${index}`);
    return client;
  }

  #kernel(index: number): Client['kernel'] {
    return this.#client(index).kernel;
  }

  #startAgain(): Promise<Client> {
    const [mount] = this.#mounts;
    if (!mount) throw new Error('there is no mount');
    return mount.start();
  }

  async #create(name: string, client: number): Promise<ModelFile> {
    const { ino, handle } = await this.#kernel(client).create(ROOT_INO, name);
    const file: ModelFile = { bytes: new SparseBytes(), ino, version: 1, writer: client };
    this.#names.set(name, file);
    this.#open[client]?.push({ file, handle, version: 1 });
    return file;
  }

  async #openFile(file: ModelFile, client: number): Promise<OpenHandle> {
    await this.#flushOthers(file, client);
    const { handle } = await this.#kernel(client).open(file.ino);
    const opened = { file, handle, version: file.version };
    this.#open[client]?.push(opened);
    return opened;
  }

  /** A handle of the file that has seen the other client's changes. */
  async #handle(file: ModelFile, client: number): Promise<OpenHandle> {
    const known = this.#open[client]?.find((each) => each.file === file && each.version === file.version);
    return known ?? this.#openFile(file, client);
  }

  /** The other client has flushed what it wrote. */
  async #flushOthers(file: ModelFile, client: number): Promise<void> {
    if (file.writer === client || file.writer < 0) return;
    const handles = this.#open[file.writer]?.filter((each) => each.file === file) ?? [];
    for (const { handle } of handles) await this.#kernel(file.writer).flush(file.ino, handle);
    await this.#client(file.writer).vfs.flushAll();
    file.writer = -1;
  }

  /** The file is this client's to change. */
  async #turn(file: ModelFile, client: number): Promise<OpenHandle> {
    await this.#flushOthers(file, client);
    return this.#handle(file, client);
  }

  #changed(file: ModelFile, client: number): void {
    file.version++;
    file.writer = client;
    for (const each of this.#open[client] ?? []) if (each.file === file && each.version === file.version - 1) each.version++;
  }

  async #write(file: ModelFile, client: number, offset: number, data: Buffer): Promise<void> {
    const { handle } = await this.#turn(file, client);
    assert.equal(await this.#kernel(client).write(file.ino, handle, offset, data), data.length);
    file.bytes.write(offset, data);
    this.#changed(file, client);
  }

  /** Small writes here and there within the file, some over others, with a larger one among them. */
  async #scatter(file: ModelFile, client: number, seed: number, size: number): Promise<void> {
    const { handle } = await this.#turn(file, client);
    for (let index = 0, state = seed | 1; index < 4 + (seed % 30); index++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const at = ((state >>> 3) % (REGION / 64)) * 64;
      const offset = (REGIONS[(state >>> 8) % 5] ?? 0) + at;
      const length = (state >>> 5) % 11 === 0 ? size : 1 + ((state >>> 4) % 3000);
      if (offset >= file.bytes.length) continue;
      const data = content(Math.min(length, file.bytes.length - offset, REGION - at), state);
      assert.equal(await this.#kernel(client).write(file.ino, handle, offset, data), data.length);
      file.bytes.write(offset, data);
    }
    this.#changed(file, client);
  }

  async #fallocate(file: ModelFile, { client, seed }: Step, offset: number, length: number): Promise<void> {
    const { handle } = await this.#turn(file, client);
    const mode = [0, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE][seed % 5] ?? 0;
    await this.#kernel(client).fallocate(file.ino, handle, offset, length, mode);
    if (mode & ~KEEP_SIZE) file.bytes.zero(offset, offset + length);
    if (!(mode & KEEP_SIZE)) file.bytes.length = Math.max(file.bytes.length, offset + length);
    this.#changed(file, client);
  }

  /** Copies a range into this file, from it or from another one. */
  async #copy(file: ModelFile, { client, seed }: Step, offset: number, size: number): Promise<void> {
    const files = [...new Set(this.#names.values())];
    const source = files[seed % files.length] ?? file;
    const from = (REGIONS[seed % REGIONS.length] ?? 0) + (seed % (REGION - size + 1));
    const into = { ...(await this.#turn(file, client)), ino: file.ino, offset };
    const out = { ...(await this.#turn(source, client)), ino: source.ino, offset: from };
    const copy = this.#kernel(client).copyFileRange(out, into, size);
    if (source === file && Math.abs(from - offset) < size) return assert.rejects(copy, refused('EINVAL'));
    const data = source.bytes.read(from, size);
    assert.equal(await copy, data.length);
    if (data.length === 0) return;
    file.bytes.write(offset, data);
    this.#changed(file, client);
  }

  /** Where lseek says that data begins, only zeros lie before; where it says that a hole does, there are zeros. */
  async #checkHoles(file: ModelFile, client: number, handle: number, offset: number): Promise<void> {
    const { length } = file.bytes;
    if (offset >= length) return;
    const seek = (want: 'data' | 'hole') => this.#kernel(client).seek(file.ino, handle, offset, want);
    const data = await seek('data').catch((error: unknown) => (refused('ENXIO')(error) ? length : 0));
    const zeros = file.bytes.read(offset, Math.min(data - offset, REGION));
    assert.ok(
      zeros.every((byte) => byte === 0),
      `data before ${data}, seen from ${offset}`,
    );
    const hole = await seek('hole');
    assert.ok(hole <= length && file.bytes.read(hole, 1).every((byte) => byte === 0), `no hole at ${hole}`);
  }

  #same(found: Buffer, file: ModelFile, offset: number, size: number): void {
    const wanted = file.bytes.read(offset, size);
    if (found.equals(wanted)) return;
    let at = 0;
    while (found[at] === wanted[at] && at < wanted.length) at++;
    assert.fail(`inode ${file.ino}: ${found.length} bytes of ${wanted.length} at ${offset}, different from ${offset + at} on`);
  }

  async #check(file: ModelFile, client: number, offset: number, size: number): Promise<void> {
    const { handle } = await this.#handle(file, client);
    this.#same(await this.#kernel(client).read(file.ino, handle, offset, size), file, offset, size);
    if (size !== REGION) await this.#checkHoles(file, client, handle, offset);
  }

  async #checkAll(file: ModelFile, client: number): Promise<void> {
    for (const start of REGIONS) await this.#check(file, client, start, REGION);
    assert.equal((await this.#kernel(client).getattr(file.ino)).size, file.bytes.length);
  }

  async #close(file: ModelFile, client: number, seed: number): Promise<void> {
    const handles = this.#open[client] ?? [];
    const mine = handles.filter((each) => each.file === file);
    const one = mine[seed % Math.max(1, mine.length)];
    if (!one) return;
    handles.splice(handles.indexOf(one), 1);
    await this.#kernel(client).flush(file.ino, one.handle);
    await this.#kernel(client).release(file.ino, one.handle);
  }

  /** The other client does not have the file open: without its name it would lose it. */
  async #closeElsewhere(file: ModelFile, client: number): Promise<void> {
    const other = 1 - client;
    while (this.#open[other]?.some((each) => each.file === file)) await this.#close(file, other, 0);
    await this.#client(other).vfs.flushAll();
  }

  /** What has lost its name can still be used by who has it open; it is closed some steps later. */
  async #afterRemoval(file: ModelFile, client: number): Promise<void> {
    if (!this.#open[client]?.some((each) => each.file === file)) return;
    await this.#checkAll(file, client);
    if (client !== 0) return;
    await this.#write(file, client, 7, content(5000, file.version));
    await this.#crash(file.version);
    await this.#checkAll(file, client);
    while (this.#open[client]?.some((each) => each.file === file)) await this.#close(file, client, 0);
  }

  async #unlink(name: string, file: ModelFile, client: number): Promise<void> {
    await this.#closeElsewhere(file, client);
    await this.#kernel(client).unlink(ROOT_INO, name);
    this.#names.delete(name);
    await this.#afterRemoval(file, client);
  }

  async #rename(name: string, file: ModelFile, { client, seed }: Step): Promise<void> {
    const newName = `f${seed % 3}`;
    const replaced = this.#names.get(newName);
    if (replaced === file) return;
    if (replaced) await this.#closeElsewhere(replaced, client);
    await this.#kernel(client).rename(ROOT_INO, name, ROOT_INO, newName);
    this.#names.delete(name);
    this.#names.set(newName, file);
    if (replaced) await this.#afterRemoval(replaced, client);
  }

  /** Names and lengths, as `ls -l` sees them. */
  async #look(name: string, file: ModelFile, client: number): Promise<void> {
    await this.#flushOthers(file, client);
    const { attr } = await this.#kernel(client).lookup(ROOT_INO, name);
    assert.deepEqual([attr.ino, attr.size], [file.ino, file.bytes.length]);
    const handle = await this.#kernel(client).opendir(ROOT_INO);
    const listed = await this.#kernel(client).readdir(ROOT_INO, handle, 0);
    await this.#kernel(client).releasedir(ROOT_INO, handle);
    const names = listed.map((each) => each.name).filter((each) => !each.startsWith('.'));
    assert.deepEqual(names.toSorted(), [...this.#names.keys()].toSorted());
    const entry = listed.find((each) => each.name === name)?.entry;
    if (entry) assert.equal(entry.attr.size, file.bytes.length);
  }

  /** Commits and questions at the same time, in an order that nobody knows. */
  async #race(name: string, file: ModelFile, client: number, offset: number, data: Buffer): Promise<void> {
    await this.#write(file, client, offset, data);
    const kernel = this.#kernel(client);
    const { handle } = await this.#handle(file, client);
    const wanted = file.bytes.length;
    const [, , , looked, asked, changed, opened] = await Promise.all([
      kernel.fsync(file.ino, handle),
      this.#check(file, client, offset, data.length),
      this.#check(file, client, 0, REGION),
      kernel.lookup(ROOT_INO, name),
      kernel.getattr(file.ino),
      kernel.setattr(file.ino, { mode: 0o600 }),
      kernel.open(file.ino, 0),
    ]);
    assert.deepEqual([looked.attr.size, asked.size, changed.size], [wanted, wanted, wanted]);
    this.#same(await kernel.read(file.ino, opened.handle, offset, data.length), file, offset, data.length);
    await kernel.release(file.ino, opened.handle);
  }

  async #crash(seed: number): Promise<void> {
    this.#litter = true;
    this.#client(0).crash();
    // What was sent to the database or the store may still arrive there.
    await new Promise((resolve) => setTimeout(resolve, 10));
    if (seed % 3 === 0) {
      // A follower that does not live long.
      const short = await this.#startAgain();
      short.crash();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    this.#clients[0] = await this.#startAgain();
  }

  /** A write that is lost, or whose commit was made though it is said to have failed. */
  async #fail(kind: string, file: ModelFile, client: number, offset: number, data: Buffer): Promise<void> {
    const volume = this.#volume;
    const { handle } = await this.#turn(file, client);
    const kernel = this.#kernel(client);
    // Nothing else is to be committed meanwhile: it would be lost as well.
    for (const each of this.#clients) await each.vfs.flushAll();
    const error = new FsError('EIO', 'planned');
    if (kind === 'storeFails')
      volume.storePlan = (operation) => (operation === 'put' ? { kind: 'status', status: 403 } : undefined);
    else {
      this.#litter = true;
      volume.metaPlan = (method) =>
        method === 'writeSlice' || method === 'writeParts' ? { error, applied: kind === 'metaForgets' } : undefined;
    }
    await kernel.write(file.ino, handle, offset, data);
    await assert.rejects(kernel.fsync(file.ino, handle), refused('EIO'));
    volume.storePlan = () => undefined;
    volume.metaPlan = () => undefined;
    if (kind === 'metaForgets') file.bytes.write(offset, data);
    this.#changed(file, client);
    // The other handles are told as well, each once.
    for (const each of this.#open[client] ?? [])
      if (each.file === file && each.handle !== handle) await assert.rejects(kernel.fsync(file.ino, each.handle), refused('EIO'));
    await kernel.fsync(file.ino, handle);
    // What the kernel asks next shows what is there.
    assert.equal((await kernel.getattr(file.ino)).size, file.bytes.length);
  }
}
