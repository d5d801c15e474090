import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ino } from '../lib/int64.ts';
import { Accounts, exceeds } from './accounts.ts';
import type { MetaEngine, Transaction } from './engine.ts';
import type { QuotaKey, QuotaRecord, QuotaUsage } from './quota.ts';

/** An engine of quotas alone, in memory; `before` runs in the middle of a commit. */
class Store {
  readonly records = new Map<string, QuotaRecord>();
  before: () => void = () => {};
  fails = false;

  readonly engine = {
    scanQuotas: (of: QuotaKey['kind']) => this.#scan(of),
    commit: async ({ writes }: Transaction) => {
      this.before();
      if (this.fails) throw new Error('no database');
      for (const write of writes) if (write.kind === 'addQuotaUsage') this.#add(write.quota, write.delta);
      return { ok: true, results: [] };
    },
  } as Partial<MetaEngine> as MetaEngine;

  async *#scan(of: QuotaKey['kind']): AsyncIterable<readonly QuotaRecord[]> {
    yield [...this.records.values()].filter(({ quota }) => quota.kind === of);
  }

  set(quota: QuotaKey, space: number, used: QuotaUsage = { space: 0, inodes: 0 }): void {
    this.records.set(`${quota.kind} ${quota.id}`, { quota, limits: { space, inodes: -1 }, used });
  }

  #add(quota: QuotaKey, { space, inodes }: QuotaUsage): void {
    const found = this.records.get(`${quota.kind} ${quota.id}`);
    const used = found?.used ?? { space: 0, inodes: 0 };
    this.set(quota, found?.limits.space ?? -1, { space: used.space + space, inodes: used.inodes + inodes });
  }

  used(kind: string, id: number): QuotaUsage | undefined {
    return this.records.get(`${kind} ${id}`)?.used;
  }
}

const folder = { kind: 'directory', id: ino(5) } as const;

function setUp(): { store: Store; accounts: Accounts } {
  const store = new Store();
  const accounts = new Accounts(store.engine);
  accounts.count(true, true);
  return { store, accounts };
}

test('what is charged while it is being written is written with the next flush, once', async () => {
  const { store, accounts } = setUp();
  store.set(folder, 100);
  await accounts.load();
  const account = accounts.directory(folder.id);
  assert.ok(account);
  account.space = 10;
  account.inodes = 1;
  store.before = () => (account.space += 5);
  await Promise.all([accounts.flush(), accounts.load()]);
  store.before = () => {};
  assert.deepEqual([account.space, account.used.space, account.inodes], [5, 10, 0]);
  await accounts.flush();
  await accounts.flush();
  assert.deepEqual(store.used('directory', 5), { space: 15, inodes: 1 });
});

test('what could not be written is kept, and counts meanwhile', async () => {
  const { store, accounts } = setUp();
  store.set(folder, 100, { space: 50, inodes: 0 });
  await accounts.load();
  const account = accounts.directory(folder.id);
  assert.ok(account);
  account.space = 40;
  store.fails = true;
  await assert.rejects(accounts.flush());
  await accounts.load();
  assert.equal(exceeds(account, 11, 0), true);
  assert.equal(exceeds(account, 10, 0), false);
  store.fails = false;
  await accounts.flush();
  assert.equal(store.used('directory', 5)?.space, 90);
});

test('a quota that was removed limits nobody who still holds its account, and one that came is known', async () => {
  const { store, accounts } = setUp();
  store.set(folder, 100, { space: 100, inodes: 0 });
  await accounts.load();
  const account = accounts.directory(folder.id);
  assert.ok(account && exceeds(account, 1, 0));
  store.records.clear();
  store.set({ kind: 'user', id: 7 }, 10);
  await accounts.load();
  assert.equal(exceeds(account, 1, 0), false);
  assert.equal(accounts.directories, false);
  assert.equal(exceeds(accounts.owner('user', 7), 11, 0), true);
});

test('whoever is charged first gets an account without limits, and where owners are no longer counted it is forgotten', async () => {
  const { store, accounts } = setUp();
  const owner = accounts.owner('group', 9);
  owner.space = 8;
  await accounts.flush();
  assert.deepEqual(store.records.get('group 9')?.limits, { space: -1, inodes: -1 });
  accounts.count(true, false);
  accounts.count(true, true);
  assert.notEqual(accounts.owner('group', 9), owner);
});

test('what is set aside counts as used, and shrinking is never refused', async () => {
  const { store, accounts } = setUp();
  store.set(folder, 100);
  await accounts.load();
  const account = accounts.directory(folder.id);
  assert.ok(account);
  account.reserved = 95;
  assert.equal(exceeds(account, 6, 0), true);
  account.space = 1000;
  assert.equal(exceeds(account, -1, -1), false);
  assert.equal(exceeds(account, 0, 1), false, 'no limit of inodes');
});
