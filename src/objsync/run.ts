/**
 * A run: lists both sides, decides (plan.ts), and does what was decided, so many objects at a time.
 *
 * Whatever ends it early - a signal, too many failures - leaves objects whole or not there, and the next run goes on from what is there, or
 * from where this one says that it has come to (progress.ts).
 *
 * Bounds: 2048 entries of each list ahead of the decisions, `threads` objects under way, 8 MiB a thread for their bytes, and of
 * directories what walk.ts and removals.ts say.
 */
import { UserError } from '../lib/errors.ts';
import { Budget } from './budget.ts';
import { copyObject, isSame, type Transfer } from './copy.ts';
import { Crowd, Places } from './crowd.ts';
import { staysInside } from './files-from.ts';
import { newTally, type RunOptions, type Tally } from './options.ts';
import { type Action, type Allowance, plan } from './plan.ts';
import { ahead } from './ahead.ts';
import { isWanted, listOf, nothing, oneByOne, without } from './lists.ts';
import { Progress, Walk, type WalkState } from './progress.ts';
import { Removals } from './removals.ts';
import { type Entry, Gone, type ListOptions, PART_BYTES, shown, type Side } from './side.ts';

const LISTED_AHEAD = 2048;

export class Run {
  readonly tally: Tally = newTally();
  readonly progress: Progress;
  readonly #source: Side;
  readonly #destination: Side;
  readonly #options: RunOptions;
  readonly #places: Places;
  readonly #listing: Places;
  readonly #allowance: Allowance;
  readonly #transfer: Transfer;
  readonly #ending = new AbortController();
  #fatal: { readonly error: unknown } | undefined;

  constructor(source: Side, destination: Side, options: RunOptions) {
    this.#source = source;
    this.#destination = destination;
    this.#options = options;
    this.#places = new Places(options.threads);
    this.#listing = new Places(options.listThreads);
    this.#allowance = { left: options.limit };
    this.progress = new Progress(options.resume);
    const both = Boolean(source.files && destination.files);
    this.#transfer = {
      source,
      destination,
      budget: new Budget(options.threads * PART_BYTES),
      ...(options.bandwidth ? { limit: options.bandwidth } : {}),
      checkNew: options.checkNew || options.checkAll,
      checkChange: options.checkChange,
      links: options.links && both,
      perms: options.perms && both,
      signal: AbortSignal.any([options.signal, this.#ending.signal]),
      onBytes: (bytes) => void (this.tally.copiedBytes += bytes),
      onChecked: (bytes) => {
        this.tally.checked++;
        this.tally.checkedBytes += bytes;
      },
    };
  }

  /** Runs to the end. Throws UserError `TooManyFailures`, the signal's reason, or what made a list fail. */
  async run(): Promise<Tally> {
    const { keys, listDepth, maxFailures, resume, signal } = this.#options;
    const inLevels = this.#options.listThreads > 1 && !this.#removes;
    try {
      const depth = inLevels ? listDepth : 0;
      if (resume) await this.#eachOf(oneByOne(resume.failed), (key) => this.#again(key));
      if (keys) await this.#produceKeys(keys, depth, resume?.lines ?? 0);
      else if (resume) await this.#goOn(resume.walks);
      else await this.#produce(this.progress.add({ prefix: '', depth }));
    } catch (error) {
      this.#fatal ??= { error };
    }
    if (this.tally.failed >= maxFailures)
      throw new UserError('TooManyFailures', `${this.tally.failed} objects failed, which is as many as --max-failure allows`);
    signal.throwIfAborted();
    if (this.#fatal) throw this.#fatal.error;
    return this.tally;
  }

  /** Where something is removed, one list at a time: what one walk has removed must not look to another as if it had not been there. */
  get #removes(): boolean {
    const { deleteSrc, deleteSrcAfter, deleteDst } = this.#options;
    return deleteSrc || deleteSrcAfter || deleteDst;
  }

  async *#filtered(list: AsyncIterable<Entry>): AsyncGenerator<Entry> {
    for await (const entry of list) {
      if (isWanted(entry, this.#options.filters)) yield entry;
      else {
        this.tally.excluded++;
        this.tally.excludedBytes += entry.size;
      }
    }
  }

  /** Without the directories, but for the one itself; they are told to `below`. */
  async *#level(list: AsyncIterable<Entry>, prefix: string, below: (entry: Entry) => Promise<void>): AsyncGenerator<Entry> {
    for await (const entry of list) {
      if (!entry.isDirectory || entry.key === prefix) yield entry;
      else if (this.#options.filters.rules.includes(entry.key)) await below(entry);
    }
  }

  /** Does something about each key; side by side where nothing is removed. */
  async #eachOf(keys: AsyncIterable<string>, action: (key: string) => Promise<void>): Promise<void> {
    const crowd = new Crowd(new Places(this.#removes ? 1 : this.#options.threads));
    try {
      for await (const key of keys) {
        if (this.#allowance.left <= 0) break;
        this.#transfer.signal.throwIfAborted();
        await crowd.add(() => action(key).catch((error: unknown) => this.#end(error)));
      }
    } finally {
      await crowd.ended();
    }
  }

  /** The walks that an earlier run has not ended. */
  async #goOn(states: readonly WalkState[]): Promise<void> {
    const walks = states.map((state) => this.progress.add(state));
    await Promise.all(walks.map((walk) => this.#produce(walk).catch((error: unknown) => this.#end(error))));
  }

  /** These alone, but for the first so many. */
  async #produceKeys(keys: AsyncIterable<string>, depth: number, done: number): Promise<void> {
    const { progress } = this;
    async function* rest(): AsyncGenerator<string> {
      let line = 0;
      for await (const key of keys) if (line++ >= done) yield key;
    }
    let line = done;
    await this.#eachOf(rest(), async (key) => {
      const own = line++;
      progress.lineBegun(own);
      await this.#produceKey(key, depth);
      if (!this.#transfer.signal.aborted) progress.lineEnded(own);
    });
    if (!this.#transfer.signal.aborted) progress.lineBegun(line);
  }

  /** What failed in an earlier run, itself without what lies in it. */
  async #again(key: string): Promise<void> {
    const { signal } = this.#transfer;
    const followLinks = !this.#transfer.links;
    const crowd = new Crowd(this.#places);
    const walk = new Walk({ prefix: key, depth: 0 });
    try {
      const heads = [this.#source, this.#destination].map((side) => side.head(key, followLinks, signal));
      const lists = (await Promise.all(heads)).map((found) =>
        listOf(found && found.isDirectory === key.endsWith('/') ? { ...found, key } : undefined),
      );
      await this.#compare(lists[0]!, lists[1]!, crowd, walk, async () => {});
      await crowd.ended();
    } catch (error) {
      signal.throwIfAborted();
      this.tally.found++;
      this.tally.handled++;
      return this.#failed({ key }, walk, error);
    }
    // It is gone by now: nothing was left to do.
    if (walk.from === '') this.progress.succeeded(key);
  }

  async #produceKey(key: string, depth: number): Promise<void> {
    const [source, destination, { start, end, forceUpdate }] = [this.#source, this.#destination, this.#options];
    if ((source.files ?? destination.files) && !staysInside(key))
      throw new UserError('FilesFrom', `--files-from: wanted paths below SRC, found ${shown(key)}`);
    const walk = new Walk({ prefix: key, depth });
    if (key.endsWith('/')) return this.#produce(walk);
    const { signal } = this.#transfer;
    const followLinks = !this.#transfer.links;
    let entry: Entry | undefined;
    let there: Entry | undefined;
    try {
      entry = await source.head(key, followLinks, signal);
      if (entry && !entry.isDirectory && !forceUpdate) there = await destination.head(key, followLinks, signal);
    } catch (error) {
      signal.throwIfAborted();
      this.tally.found++;
      this.tally.handled++;
      return this.#failed({ key }, walk, error);
    }
    if (entry?.isDirectory) return this.#produce(new Walk({ prefix: `${key}/`, depth }));
    if (!entry) {
      this.tally.missing++;
      return this.#options.onMissing(key);
    }
    if (key < start || (end !== '' && key > end)) return;
    const crowd = new Crowd(this.#places);
    // A directory there is found by the copy, as when it is listed under another key.
    await this.#compare(listOf(entry), listOf(there?.isDirectory ? undefined : there), crowd, walk, async () => {});
    await crowd.ended();
  }

  /** Ends everything. */
  #end(error: unknown): void {
    this.#fatal ??= { error };
    this.#ending.abort(error);
  }

  /** Decides about two lists and has it done; `below` is waited for before directories are removed. */
  async #compare(
    from: AsyncIterable<Entry>,
    to: AsyncIterable<Entry>,
    crowd: Crowd,
    walk: Walk,
    below: () => Promise<void>,
  ): Promise<void> {
    const settle = (): Promise<void> => crowd.ended();
    const { restored } = walk;
    const extras = new Removals(settle, (entry) => this.#remove(this.#destination, entry, walk), restored.extras);
    const copied = new Removals(settle, (entry) => this.#remove(this.#source, entry, walk), restored.copied);
    walk.removals = () => ({ extras: extras.state(), copied: copied.state() });
    const lists = [from, to].map((list) => ahead(this.#filtered(without(this.#options.ownKey, list)), LISTED_AHEAD));
    try {
      for await (const action of plan(lists[0]!, lists[1]!, this.#options, this.#allowance)) {
        this.#transfer.signal.throwIfAborted();
        await this.#begin(action, crowd, walk, extras, copied);
      }
    } finally {
      await Promise.all(lists.map((list) => list.return(undefined)));
    }
    await below();
    await extras.end();
    await copied.end();
  }

  /** Everything under a prefix; the first `depth` levels of directories side by side. */
  async #produce(walk: Walk): Promise<void> {
    const { prefix, depth } = walk;
    const [source, destination, { forceUpdate }] = [this.#source, this.#destination, this.#options];
    const { signal } = this.#transfer;
    const followLinks = !this.#transfer.links;
    const start = walk.from > this.#options.start ? walk.from : this.#options.start;
    const options: ListOptions = { start, end: this.#options.end, followLinks, signal };
    const crowd = new Crowd(this.#places);
    const below = new Crowd(new Places(this.#options.listThreads));
    let listing = false;
    const list = async (): Promise<void> => {
      await this.#listing.take();
      listing = true;
    };
    const listed = (): void => {
      if (listing) this.#listing.give();
      listing = false;
    };
    const spawn = async ({ key }: Entry): Promise<void> => {
      if (key <= walk.spawned) return;
      const child = this.#options.keys
        ? new Walk({ prefix: key, depth: depth - 1 })
        : this.progress.add({ prefix: key, depth: depth - 1 });
      walk.spawned = key;
      // Whoever waits for one below must not hold what that one waits for.
      listed();
      await below.add(() => this.#produce(child).catch((error: unknown) => this.#end(error)));
      await list();
    };
    const inLevels = depth > 0 && source.level !== undefined && destination.level !== undefined;
    const from = inLevels ? this.#level(source.level!(prefix, options), prefix, spawn) : source.list(prefix, options);
    const to = forceUpdate
      ? nothing
      : inLevels
        ? this.#level(destination.level!(prefix, options), prefix, async () => {})
        : destination.list(prefix, options);
    await list();
    try {
      await this.#compare(from, to, crowd, walk, async () => {
        // Those below want its place.
        listed();
        await below.ended();
      });
    } finally {
      listed();
      await below.ended();
      await crowd.ended();
    }
    if (!signal.aborted) this.progress.finished(walk);
  }

  /** Starts what was decided, or notes it. */
  async #begin(action: Action, crowd: Crowd, walk: Walk, extras: Removals, copied: Removals): Promise<void> {
    const { tally } = this;
    const { entry, kind } = action;
    await extras.at(entry.key);
    await copied.at(entry.key);
    walk.begun(entry.key);
    if (kind === 'extra') {
      tally.extra++;
      tally.extraBytes += entry.size;
      return this.#done(entry, walk);
    }
    tally.found++;
    if (kind === 'skip') {
      this.#skip(entry);
      tally.handled++;
      this.#done(entry, walk);
    } else if (kind === 'removeExtra' && entry.isDirectory) {
      extras.add(entry);
      walk.ended(entry.key);
    } else if (kind === 'removeSource' && entry.isDirectory) {
      copied.add(entry);
      walk.ended(entry.key);
    } else {
      if (kind === 'copy' && entry.isDirectory && this.#options.deleteSrcAfter) copied.add(entry);
      await crowd.add(() => this.#act(action, walk));
    }
  }

  #done({ key }: Entry, walk: Walk): void {
    walk.ended(key);
    this.progress.succeeded(key);
  }

  #skip({ size }: Entry): void {
    this.tally.skipped++;
    this.tally.skippedBytes += size;
  }

  /** Does what was decided. Never fails: failures are counted and told. */
  async #act(action: Action, walk: Walk): Promise<void> {
    const { entry } = action;
    try {
      await this.#do(action);
      this.#done(entry, walk);
    } catch (error) {
      if (error instanceof Gone) {
        this.#skip(entry);
        this.#done(entry, walk);
      } else if (!this.#transfer.signal.aborted) this.#failed(entry, walk, error);
    }
    this.tally.handled++;
  }

  #failed({ key }: Pick<Entry, 'key'>, walk: Walk, error: unknown): void {
    this.tally.failed++;
    this.progress.failed(key, walk);
    walk.ended(key);
    this.#options.onFailure(key, error);
    if (this.tally.failed >= this.#options.maxFailures) this.#ending.abort(error);
  }

  async #do(action: Action): Promise<void> {
    const { dry, deleteSrc, deleteSrcAfter } = this.#options;
    const { entry, kind } = action;
    switch (kind) {
      case 'removeExtra':
        return this.#delete(this.#destination, entry);
      case 'removeSource':
        return this.#delete(this.#source, entry);
      case 'permissions':
        if (!dry) await this.#destination.files?.setPermissions(entry.key, entry.permissions!);
        this.tally.copied++;
        return;
      case 'compare': {
        if (dry) {
          this.tally.checked++;
          return;
        }
        const same = await isSame(this.#transfer, entry, action.there!);
        if (!same) break;
        if (deleteSrc && !entry.isDirectory) return this.#delete(this.#source, entry);
        return this.#skip(entry);
      }
      default:
    }
    if (dry) {
      this.tally.copied++;
      this.tally.copiedBytes += entry.size;
      return;
    }
    await copyObject(this.#transfer, entry);
    this.tally.copied++;
    if (deleteSrcAfter && !entry.isDirectory) await this.#delete(this.#source, entry);
  }

  async #delete(side: Side, { key }: Entry): Promise<void> {
    if (!this.#options.dry) await side.remove(key, this.#transfer.signal);
    this.tally.deleted++;
  }

  /** Removes a directory whose contents are dealt with; one in which something was left stays. Fails only where the run ends early. */
  async #remove(side: Side, entry: Entry, walk: Walk): Promise<void> {
    try {
      // The places themselves stay.
      const removed = this.#options.dry || (entry.key !== '' && (await side.remove(entry.key, this.#transfer.signal)));
      if (removed) this.tally.deleted++;
      this.progress.succeeded(entry.key);
    } catch (error) {
      this.#transfer.signal.throwIfAborted();
      this.#failed(entry, walk, error);
    }
    this.tally.handled++;
  }
}
