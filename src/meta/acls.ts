/**
 * The access control lists of a volume. A node names its lists by number; a list (rule) is stored once under a number and never
 * changed, so what is known of one holds for ever. A rule that is not known here under a number gets a new one; several numbers
 * for one rule do no harm, and none is ever removed (as in JuiceFS).
 *
 * Bound: `LIMIT` rules are remembered, the first ones of the volume at the start of a session.
 */
import { FsError } from '../lib/errors.ts';
import { type AclRule, decodeRule, encodeRule } from './acl-rule.ts';
import type { ChangeLog } from './changelog.ts';
import type { MetaEngine } from './engine.ts';

const LIMIT = 10_000;

/** A decision rests on a rule that is not known yet: `load` it, and decide again. */
export class UnknownRule extends Error {
  override readonly name = 'UnknownRule';
  readonly id: number;

  constructor(id: number) {
    super(`the access control list ${id} was not read yet`);
    this.id = id;
  }
}

export class Acls {
  readonly #engine: Pick<MetaEngine, 'read' | 'acls' | 'addAcl'>;
  readonly #log: Pick<ChangeLog, 'addCounter'> | undefined;
  readonly #rules = new Map<number, AclRule>();
  /** Numbers by stored bytes. */
  readonly #ids = new Map<string, number>();

  constructor(engine: Pick<MetaEngine, 'read' | 'acls' | 'addAcl'>, log?: Pick<ChangeLog, 'addCounter'>) {
    this.#engine = engine;
    this.#log = log;
  }

  #remember(id: number, bytes: Buffer): AclRule {
    const known = this.#rules.get(id);
    if (known) return known;
    if (this.#rules.size >= LIMIT) {
      this.#rules.clear();
      this.#ids.clear();
    }
    const rule = decodeRule(bytes);
    this.#rules.set(id, rule);
    const key = bytes.toString('latin1');
    if (!this.#ids.has(key)) this.#ids.set(key, id);
    return rule;
  }

  /** Reads what there is, so that rules which exist get no second number. */
  async start(): Promise<void> {
    for (const { id, rule } of await this.#engine.acls(LIMIT)) this.#remember(id, rule);
  }

  /** A rule that is known. Throws UnknownRule where it is not. */
  readonly known = (id: number): AclRule => {
    const rule = this.#rules.get(id);
    if (!rule) throw new UnknownRule(id);
    return rule;
  };

  /** A rule by its number; EIO where the volume has none of that number. */
  async rule(id: number): Promise<AclRule> {
    const known = this.#rules.get(id);
    if (known) return known;
    const [bytes] = await this.#engine.read([{ kind: 'acl', id }]);
    if (!bytes) throw new FsError('EIO', `the access control list ${id} of a node is not in the database`);
    return this.#remember(id, bytes);
  }

  /** The number of a rule; a new one where it has none yet. */
  async idOf(rule: AclRule): Promise<number> {
    const bytes = encodeRule(rule);
    const known = this.#ids.get(bytes.toString('latin1'));
    if (known !== undefined) return known;
    const id = await this.#engine.addAcl(bytes, this.#log?.addCounter('aclMaxId', 1)[0]);
    this.#remember(id, bytes);
    return id;
  }
}
