import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Clock, systemClock } from '../lib/clock.ts';
import { nullLogger } from '../lib/log.ts';
import { readSecretData, secretData } from './authority.ts';
import { type BundlePublisher, FileCertificates, OwnAuthority, type SecretStore } from './certs.ts';
import type { KeyPair } from './server.ts';
import { createAuthority, readBundle, signLeaf } from './x509.ts';

const DAY = 86_400_000;
const signal = new AbortController().signal;

/** What the replicas share: a Secret, a webhook configuration, the time. */
class World {
  time = Date.parse('2026-01-01T00:00:00Z');
  secret: { data: Readonly<Record<string, string>>; version: string } | undefined;
  bundles: string[] | undefined = ['', ''];
  /** Of the configuration that holds the bundles. */
  version = 0;
  /** Awaited by every call before it is answered, or done; to hold a replica up. */
  pause: ((call: 'read' | 'publish') => Promise<void>) | undefined;
  writes = 0;
  publishing = true;
  reachable = true;
  readonly clock: Clock = { ...systemClock, now: () => this.time };
  readonly store: SecretStore = {
    read: async () => {
      if (!this.reachable) throw new Error('the API server is away');
      return this.secret;
    },
    write: async (data, version) => {
      if (this.secret?.version !== version) return false;
      this.secret = { data, version: String(++this.writes) };
      return true;
    },
  };
  readonly publisher: BundlePublisher = {
    read: async () => {
      const found = this.bundles && { bundles: this.bundles, version: String(this.version) };
      await this.pause?.('read');
      return found;
    },
    publish: async (bundle, version) => {
      if (!this.publishing) throw new Error('the API server is away');
      await this.pause?.('publish');
      if (version !== String(this.version)) return false;
      this.version++;
      this.bundles = this.bundles?.map(() => bundle);
      return true;
    },
  };
}

/** One replica, with the certificate it serves. */
class Replica {
  readonly source: OwnAuthority;
  keys: KeyPair | undefined;
  /** How wrong the clock of its node is, milliseconds. */
  wrong = 0;
  readonly #world: World;

  constructor(world: World, log = nullLogger) {
    this.#world = world;
    const { store, publisher } = world;
    this.source = new OwnAuthority({
      clock: { ...world.clock, now: () => world.time + this.wrong },
      secret: store,
      publisher,
      names: ['hook.ns.svc'],
      serverTime: async () => {
        if (!world.reachable) throw new Error('the API server is away');
        return Math.floor(world.time / 1000) * 1000;
      },
      log,
    });
  }

  async look(): Promise<void> {
    this.keys = (await this.source.look(signal)) ?? this.keys;
  }

  /** What the API server would say of a connection now. */
  isTrusted(): boolean {
    const leaf = new X509Certificate(this.keys?.cert ?? '');
    const [from, to] = [Date.parse(leaf.validFrom), Date.parse(leaf.validTo)];
    if (this.#world.time < from || this.#world.time > to || !leaf.checkHost('hook.ns.svc')) return false;
    return (this.#world.bundles ?? []).every((bundle) =>
      readBundle(bundle).some(({ pem, notAfter }) => {
        const authority = new X509Certificate(pem);
        return notAfter > this.#world.time && leaf.checkIssued(authority) && leaf.verify(authority.publicKey);
      }),
    );
  }
}

test('replicas that start at once share one authority, and each has a leaf of its own', async () => {
  const world = new World();
  const replicas = [new Replica(world), new Replica(world), new Replica(world)];
  await Promise.all(replicas.map((replica) => replica.look()));
  await Promise.all(replicas.map((replica) => replica.look()));
  assert.ok(replicas.every((replica) => replica.isTrusted()));
  assert.equal(new Set(replicas.map((replica) => replica.keys?.key)).size, 3);
  assert.equal(world.writes, 1);
  assert.equal(readBundle(world.bundles?.[0] ?? '').length, 1);
});

test('a look without anything due changes nothing', async () => {
  const world = new World();
  const replica = new Replica(world);
  await replica.look();
  const before = JSON.stringify([world.secret, world.bundles]);
  assert.equal(await replica.source.look(signal), undefined);
  assert.equal(JSON.stringify([world.secret, world.bundles]), before);
});

test('a leaf is renewed when two thirds of its life are over', async () => {
  const world = new World();
  const replica = new Replica(world);
  await replica.look();
  const first = replica.keys?.cert;
  world.time += 4 * DAY;
  await replica.look();
  assert.equal(replica.keys?.cert, first);
  world.time += DAY;
  await replica.look();
  assert.notEqual(replica.keys?.cert, first);
});

test('twenty months of rotation never show the API server a certificate it does not trust', async () => {
  const world = new World();
  const replicas = [new Replica(world), new Replica(world)];
  const authorities = new Set<string>();
  const sizes = new Set<number>();
  for (const replica of replicas) await replica.look();
  for (let day = 0; day < 600; day++) {
    world.time += DAY;
    // One replica is slower than the other; both must be trusted in between.
    for (const replica of day % 2 === 0 ? replicas : replicas.toReversed()) {
      await replica.look();
      assert.ok(
        replicas.every((each) => each.isTrusted()),
        `day ${day}`,
      );
    }
    authorities.add(new X509Certificate(world.secret?.data['tls.crt'] ?? '').fingerprint256);
    sizes.add(readBundle(world.bundles?.[0] ?? '').length);
  }
  assert.ok(authorities.size === 3, `${authorities.size} authorities`);
  assert.deepEqual(sizes, new Set([1, 2]));
});

test('the next authority does not sign before it was published', async () => {
  const world = new World();
  const replica = new Replica(world);
  await replica.look();
  const first = world.secret?.data['tls.crt'];
  world.time += 250 * DAY;
  world.publishing = false;
  // The leaf is due, and is renewed all the same.
  await replica.look();
  for (let hour = 0; hour < 5; hour++) {
    await assert.rejects(replica.look(), /the API server is away/);
    world.time += 3_600_000;
  }
  assert.ok(world.secret?.data['next.crt']);
  assert.equal(world.secret.data['tls.crt'], first);
  world.publishing = true;
  await replica.look();
  await replica.look();
  assert.notEqual(world.secret.data['tls.crt'], first);
  assert.equal(world.secret.data['next.crt'], undefined);
  assert.ok(replica.isTrusted());
});

test('a leaf is renewed while the API server cannot be reached', async () => {
  const world = new World();
  const replica = new Replica(world);
  await replica.look();
  const first = replica.keys?.cert;
  world.reachable = false;
  await assert.rejects(replica.look(), /the API server is away/);
  world.time += 5 * DAY;
  await replica.look();
  assert.notEqual(replica.keys?.cert, first);
  assert.ok(replica.isTrusted());
  world.reachable = true;
  await replica.look();
});

test('a cluster that was switched off for two years starts with a new authority', async () => {
  const world = new World();
  await new Replica(world).look();
  world.time += 730 * DAY;
  const replica = new Replica(world);
  await replica.look();
  assert.ok(replica.isTrusted());
  assert.equal(readBundle(world.bundles?.[0] ?? '').length, 1);
});

test('a replica that slept for two years, and with it everything, heals at its first look', async () => {
  const world = new World();
  const replica = new Replica(world);
  await replica.look();
  world.time += 250 * DAY;
  // The next authority is made, and has ended before anybody promoted it.
  await replica.look();
  assert.ok(world.secret?.data['next.crt']);
  world.time += 730 * DAY;
  assert.ok(!replica.isTrusted());
  await replica.look();
  assert.ok(replica.isTrusted());
  assert.equal(readBundle(world.bundles?.[0] ?? '').length, 1);
});

for (const [where, years] of [
  ['ahead', 2],
  ['behind', -2],
] as const)
  test(`a node whose clock jumps two years ${where} neither changes the authority nor signs what is not trusted`, async () => {
    const world = new World();
    const [right, jumping] = [new Replica(world), new Replica(world)];
    for (const replica of [right, jumping]) await replica.look();
    const before = world.secret?.data['tls.crt'];
    jumping.wrong = years * 365 * DAY;
    for (let count = 0; count < 20; count++) {
      world.time += DAY;
      for (const replica of [jumping, right]) {
        await replica.look();
        assert.ok(right.isTrusted() && jumping.isTrusted(), `day ${count}`);
      }
    }
    assert.equal(world.secret?.data['tls.crt'], before);
    assert.ok(Math.abs(jumping.source.skewMs + jumping.wrong) < 1000);
    jumping.wrong = 0;
    await jumping.look();
    assert.equal(jumping.source.skewMs, 0);
    assert.ok(jumping.isTrusted());
  });

test('an authority that begins in the future, made by a clock that was wrong, is replaced', async () => {
  const world = new World();
  const [signing, now] = [await createAuthority(world.time + 400 * DAY), world.time];
  world.secret = { data: secretData({ signing, next: undefined, old: [] }), version: '1' };
  const replica = new Replica(world);
  await replica.look();
  assert.ok(replica.isTrusted());
  const read = readSecretData((world.secret as { data: Readonly<Record<string, string>> }).data);
  assert.ok(read && read.signing.certificate.notBefore <= now);
});

test('a replica that is held up before it publishes does not put back an older bundle', async () => {
  const world = new World();
  const [slow, fast] = [new Replica(world), new Replica(world)];
  for (const replica of [slow, fast]) await replica.look();
  world.time += 243 * DAY;
  for (const replica of [slow, fast]) await replica.look();
  // Somebody wipes caBundle; one replica is about to write it, and stands still.
  world.bundles = ['', ''];
  world.version++;
  const [reached, resume] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  world.pause = async (call) => {
    if (call !== 'publish') return;
    reached.resolve();
    await resume.promise;
  };
  const late = slow.look();
  await reached.promise;
  world.pause = undefined;
  // The other one goes through a whole change of authority meanwhile.
  const before = world.secret?.data['tls.crt'];
  for (let count = 0; count < 4; count++) {
    world.time += DAY / 4;
    await fast.look();
  }
  assert.notEqual(world.secret?.data['tls.crt'], before);
  const settled = world.bundles;
  resume.resolve();
  await late;
  assert.deepEqual(world.bundles, settled);
  assert.ok(fast.isTrusted());
});

test('replicas that race through two years of rotation agree, and each stays trusted', async () => {
  const world = new World();
  const replicas = Array.from({ length: 4 }, () => new Replica(world));
  // Each call on the API server takes a turn, in an order that changes: the steps of the replicas interleave.
  let seed = 1;
  world.pause = async () => {
    seed = (seed * 48_271) % 2_147_483_647;
    for (let turn = seed % 5; turn > 0; turn--) await Promise.resolve();
  };
  await Promise.all(replicas.map((replica) => replica.look()));
  for (let day = 0; day < 700; day++) {
    world.time += DAY;
    await Promise.all(replicas.map((replica) => replica.look()));
    // One was faster at publishing; the others, at the latest, see it at their next look.
    await Promise.all(replicas.map((replica) => replica.look()));
    assert.ok(
      replicas.every((replica) => replica.isTrusted()),
      `day ${day}`,
    );
  }
});

test('a Secret that is deleted or damaged is restored, a caBundle that is wiped is written again', async () => {
  const world = new World();
  const replica = new Replica(world);
  await replica.look();
  const before = world.secret?.data;
  world.secret = undefined;
  world.bundles = [''];
  await replica.look();
  assert.deepEqual((world.secret as World['secret'])?.data, before);
  assert.ok(replica.isTrusted());
  world.secret = { data: { 'tls.crt': 'x' }, version: '9' };
  await replica.look();
  assert.deepEqual((world.secret as World['secret'])?.data, before);
});

test('without a webhook configuration there is still a certificate', async () => {
  const world = new World();
  world.bundles = undefined;
  const replica = new Replica(world);
  await replica.look();
  assert.ok(replica.keys);
});

test('what is written to the Secret is read back, and a foreign key is not accepted', async () => {
  const [signing, next] = [await createAuthority(Date.now()), await createAuthority(Date.now())];
  const state = { signing, next, old: [] };
  assert.deepEqual(readSecretData(secretData(state)), state);
  assert.equal(readSecretData({ ...secretData(state), 'tls.key': next.key }), undefined);
  assert.equal(readSecretData({}), undefined);
});

test('files are read again when they change, and a pair that does not fit is not used', async (context) => {
  const folder = await mkdtemp(join(tmpdir(), 'juicepod-certs-'));
  context.after(() => rm(folder, { recursive: true }));
  const [cert, key] = [join(folder, 'tls.crt'), join(folder, 'tls.key')];
  const authority = await createAuthority(Date.now());
  const write = async (pair: Awaited<ReturnType<typeof signLeaf>>, which: 'both' | 'cert'): Promise<void> => {
    await writeFile(cert, pair.certificate.pem);
    if (which === 'both') await writeFile(key, pair.key);
  };
  const source = new FileCertificates(cert, key);
  await assert.rejects(source.look(signal), /ENOENT/);
  const [first, second] = [await signLeaf(authority, ['a'], Date.now()), await signLeaf(authority, ['a'], Date.now())];
  await write(first, 'both');
  assert.equal((await source.look(signal))?.cert, first.certificate.pem);
  assert.equal(await source.look(signal), undefined);
  await write(second, 'cert');
  await assert.rejects(source.look(signal), /does not belong/);
  await write(second, 'both');
  assert.equal((await source.look(signal))?.cert, second.certificate.pem);
  assert.equal(source.current?.notAfter, second.certificate.notAfter);
});
