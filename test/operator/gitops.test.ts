/** What Git tools make of our objects in every state that they can be in: kstatus (Flux), and the health rule for Argo CD in docs/gitops. */
import { JuiceCachePolicies } from '../../src/api/kinds.ts';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { ROOT_INO } from '../../src/lib/int64.ts';
import { openMeta } from '../../src/meta/open.ts';
import { freePort } from '../servers.ts';
import { ensureDebian, ToolMissing } from '../tools.ts';
import { createHarness, type Harness } from './harness.ts';
import { type Judged, kstatus } from './kstatus.ts';
import { mountConfig, place } from './place.ts';

type Health = 'Healthy' | 'Progressing' | 'Degraded' | 'Suspended';

const root = resolve(import.meta.dirname, '..', '..');
const rule = readFileSync(join(root, 'docs', 'gitops', 'argocd-health.lua'), 'utf8');
let missing = '';
let lua = false;
before(() => {
  try {
    ensureDebian('lua5.4');
    lua = true;
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    missing = error.message;
  }
});
let judgements = 0;
after(() => assert.ok(judgements > 10, `only ${judgements} states were judged`));

/** A value as Lua writes it. */
function literal(value: unknown): string {
  if (Array.isArray(value)) return `{${value.map(literal).join(',')}}`;
  if (typeof value === 'object' && value !== null)
    return `{${Object.entries(value)
      .map(([key, member]) => `[${JSON.stringify(key)}]=${literal(member)}`)
      .join(',')}}`;
  if (typeof value === 'string')
    return `"${[...Buffer.from(value)].map((byte) => `\\${String(byte).padStart(3, '0')}`).join('')}"`;
  return typeof value === 'number' || typeof value === 'boolean' ? `${value}` : 'nil';
}

/** What the rule says of an object, asked of Lua itself. */
function argo(object: unknown): Health {
  const program = `local obj = ${literal(JSON.parse(JSON.stringify(object)))}
local health = (function()
${rule}
end)()
assert(type(health.message) == "string" and #health.message > 0)
io.write(health.status)`;
  return execFileSync('lua5.4', ['-'], { input: program, encoding: 'utf8' }) as Health;
}

function judge(t: TestContext, object: unknown, flux: ReturnType<typeof kstatus>, health: Health): void {
  judgements++;
  assert.equal(kstatus(object as Judged), flux, JSON.stringify((object as Judged).status?.conditions));
  if (lua) assert.equal(argo(object), health, JSON.stringify((object as Judged).status?.conditions));
  else t.diagnostic(`the rule for Argo CD was not run: ${missing}`);
}

interface State {
  readonly flux: ReturnType<typeof kstatus>;
  readonly health: Health;
  /** Brings the volume there; `spec` is that of a volume that becomes ready. */
  readonly reach: (harness: Harness, spec: Record<string, unknown>) => Promise<void>;
}

const made = async (harness: Harness, spec: Record<string, unknown>): Promise<void> => {
  await harness.createVolume(spec);
  await harness.reconcile();
};

const states: Readonly<Record<string, State>> = {
  ready: { flux: 'Current', health: 'Healthy', reach: made },
  'not looked at yet': {
    flux: 'InProgress',
    health: 'Progressing',
    // The API server fills this in (test/operator/api-server.test.ts).
    reach: (harness, spec) => harness.createVolume(spec, {}, { observedGeneration: -1 }),
  },
  'changed and not looked at again': {
    flux: 'InProgress',
    health: 'Progressing',
    async reach(harness, spec) {
      await made(harness, spec);
      await harness.changeVolume((old) => ({ ...old, format: { ...(old['format'] as object), trashRetention: '48h' } }));
    },
  },
  'waiting for a Secret': {
    flux: 'InProgress',
    health: 'Progressing',
    reach: (harness, spec) =>
      made(harness, { ...spec, encryption: { algorithm: 'AES256GCM', passphraseSecretRef: { name: 'late' } } }),
  },
  'with a database that does not answer': {
    flux: 'InProgress',
    health: 'Progressing',
    reach: async (harness, spec) =>
      made(harness, { ...spec, metadata: { redis: { addresses: [`127.0.0.1:${await freePort()}`] } } }),
  },
  'with another volume in its place': {
    flux: 'Failed',
    health: 'Degraded',
    async reach(harness, spec) {
      await harness.createVolume(spec, { name: 'older' });
      await harness.reconcile('older');
      await made(harness, spec);
    },
  },
  'with a limit that waits for its directory': {
    flux: 'InProgress',
    health: 'Progressing',
    reach: (harness, spec) => made(harness, { ...spec, quota: { directories: [{ path: '/later', inodes: 5 }] } }),
  },
  'with a limit that is reached': {
    flux: 'Current',
    health: 'Healthy',
    async reach(harness, spec) {
      await made(harness, { ...spec, quota: { groups: [{ gid: 0, inodes: 1 }] } });
      const { metaUrl } = mountConfig(harness);
      const meta = await openMeta(metaUrl, { backgroundJobs: false });
      await meta.newSession('/test');
      await meta.mkdir({ uid: 0, gid: 0, pid: 1 }, ROOT_INO, Buffer.from('a'), 0o755, 0);
      await meta.close();
      await harness.reconcile();
      assert.equal(harness.condition('QuotaExceeded'), 'True LimitReached');
    },
  },
  'while its passphrase changes': {
    flux: 'InProgress',
    health: 'Progressing',
    async reach(harness, spec) {
      await made(harness, { ...spec, encryption: { algorithm: 'AES256GCM' } });
      await harness.changeVolume((old) => ({
        ...old,
        encryption: { ...(old['encryption'] as object), passphraseGeneration: 2 },
      }));
      await harness.reconcile();
    },
  },
  'with a policy that does not exist': {
    flux: 'Current',
    health: 'Healthy',
    reach: (harness, spec) => made(harness, { ...spec, cachePolicyRef: { name: 'none' } }),
  },
  suspended: {
    flux: 'Current',
    health: 'Suspended',
    async reach(harness, spec) {
      await made(harness, spec);
      await harness.changeVolume((old) => ({ ...old, suspend: true }));
      await harness.reconcile();
    },
  },
  'with a mount Secret of somebody else': {
    flux: 'InProgress',
    health: 'Progressing',
    async reach(harness, spec) {
      await harness.createSecret('juicepod-mount-datasets', { mine: 'yes' });
      await made(harness, spec);
    },
  },
  'being deleted, and waiting to be confirmed': {
    flux: 'Terminating',
    health: 'Progressing',
    async reach(harness, spec) {
      await made(harness, { ...spec, reclaimPolicy: 'Delete' });
      await harness.deleteVolume();
      await harness.reconcile();
      assert.equal(harness.condition('DeletionUnconfirmed'), 'True Unconfirmed');
    },
  },
};

for (const [what, { flux, health, reach }] of Object.entries(states))
  test(`a volume ${what} is ${flux} to kstatus and ${health} to Argo CD`, async (t) => {
    const harness = createHarness();
    await reach(harness, place(t).spec);
    judge(t, harness.volume(), flux, health);
  });

test('a policy is Current when it is accepted, and Failed when its sizes do not fit', async (t) => {
  const harness = createHarness();
  for (const [name, spec, flux, health] of [
    ['good', {}, 'Current', 'Healthy'],
    ['bad', { readahead: { max: '1Gi' }, buffer: { size: '64Mi' } }, 'Failed', 'Degraded'],
  ] as const) {
    await harness.createPolicy(name, spec);
    await harness.reconcilePolicy(name);
    judge(t, harness.server.peek(JuiceCachePolicies, { namespace: 'data', name }), flux, health);
  }
});
