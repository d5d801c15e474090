/**
 * Limits of directories, users and groups in the database, for one reconcile: looked at, set, removed, counted again. A directory
 * that does not exist is no failure of the others.
 */
import type { JuiceVolume } from '../../api/volume.ts';
import { messageOf, UserError } from '../../lib/errors.ts';
import type { MetaEngine } from '../../meta/engine.ts';
import {
  checkQuotas,
  countOwners,
  getQuota,
  listQuotas,
  type Quota,
  type QuotaOwner,
  removeQuota,
  setQuota,
} from '../../meta/quotas.ts';
import type { QuotasSeen } from './observation.ts';
import { ownerOf, ownQuotas, type QuotaAction, quotaId, type QuotaName } from './quotas.ts';

const missing = (error: unknown): boolean =>
  error instanceof UserError && (error.code === 'PathMissing' || error.code === 'NotADirectory');

const limited = ({ capacity, inodes }: Quota): boolean => capacity > 0 || inodes > 0;

export class Limits {
  readonly #volume: JuiceVolume;
  readonly #engine: MetaEngine;
  readonly #signal: AbortSignal;
  readonly #failed = new Map<string, { readonly missing: boolean; readonly message: string }>();
  readonly #done = new Set<string>();
  #others: readonly Quota[] | undefined;
  #ownersCounted = false;

  constructor(volume: JuiceVolume, engine: MetaEngine, signal: AbortSignal) {
    this.#volume = volume;
    this.#engine = engine;
    this.#signal = signal;
  }

  async #find(name: QuotaName): Promise<Quota | undefined> {
    try {
      const found = await getQuota(this.#engine, ownerOf(name));
      return found && limited(found) ? found : undefined;
    } catch (error) {
      if (missing(error)) return undefined;
      throw error;
    }
  }

  /** `deep`: those of others, too. */
  async observe(deep: boolean): Promise<QuotasSeen> {
    const own: Quota[] = [];
    for (const name of ownQuotas(this.#volume)) {
      const found = await this.#find(name);
      if (found) own.push(found);
    }
    if (deep) this.#others ??= await listQuotas(this.#engine);
    return { own, others: this.#others, failed: new Map(this.#failed), done: new Set(this.#done) };
  }

  async #act(action: QuotaAction): Promise<void> {
    const owner = ownerOf(action.quota);
    switch (action.do) {
      case 'set': {
        const { capacity, inodes } = action.quota;
        await setQuota(this.#engine, owner, { capacity, inodes }, { signal: this.#signal });
        if (action.recount) await this.#recount(owner);
        return;
      }
      case 'remove':
        return removeQuota(this.#engine, owner);
      case 'recount':
        return this.#recount(owner);
    }
  }

  async #recount(owner: QuotaOwner): Promise<void> {
    if (owner.kind === 'directory') {
      await checkQuotas(this.#engine, { owner, repair: true, signal: this.#signal });
      return;
    }
    // Interrupted while the first of them switched the counting on, perhaps: then nobody was counted.
    if (!this.#ownersCounted) await countOwners(this.#engine, this.#signal);
    this.#ownersCounted = true;
  }

  /** What fails for one is remembered, and the others go on. Throws what concerns the whole database. */
  async perform(actions: readonly QuotaAction[]): Promise<void> {
    for (const action of actions) {
      const id = quotaId(action.quota);
      try {
        await this.#act(action);
        this.#done.add(id);
      } catch (error) {
        if (!(error instanceof UserError) || error.retryable) throw error;
        this.#failed.set(id, { missing: missing(error), message: messageOf(error) });
      }
    }
  }
}
