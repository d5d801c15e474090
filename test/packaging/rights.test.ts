/**
 * The rights of operator and webhook, on a real API server that writes down each call of theirs: with those of config/default, and
 * with those of config/namespaced, nothing they do is refused, and nothing they may do is without use.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { runWebhook } from '../../src/admission/index.ts';
import { LOOK_MS } from '../../src/kube/scope.ts';
import { type Clock, systemClock } from '../../src/lib/clock.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { runOperator } from '../../src/operator/index.ts';
import { startRedis } from '../servers.ts';
import { ToolMissing } from '../tools.ts';
import { install, type Installed, system } from './installed.ts';
import { until } from '../until.ts';
import type { Manifest } from './manifests.ts';

/** Rights that are used without a call of their own, or only when something rare happens. */
const unseen: Readonly<Record<string, string>> = {
  'juicepod-operator juicepod.io/juicevolumes/finalizers update': 'asked when a Secret gets an owner with blockOwnerDeletion',
  'juicepod-operator /secrets create': 'asked when server-side apply makes a Secret that is not there',
  'juicepod-operator events.k8s.io/events patch': 'an event that repeats becomes a series',
  'juicepod-operator juicepod.io/juicecachepolicies get': 'read live only while a volume is decided on',
  'juicepod-operator juicepod.io/juicevolumes replan': 'asked by the API server where a plan of a running pod is changed',
  'juicepod-operator /pods get': 'of a pod that slipped past the webhook, or in a roll-out',
  'juicepod-operator apps/replicasets get': 'of one whose pods are refused',
  'juicepod-operator apps/statefulsets get': 'of one whose pods are refused',
  'juicepod-operator apps/daemonsets get': 'of one whose pods are refused',
  'juicepod-operator batch/jobs get': 'of one whose pods are refused',
  'juicepod-operator /pods list': 'in a roll-out',
  'juicepod-operator /pods patch': 'in a roll-out',
  'juicepod-operator events.k8s.io/events list': 'in a roll-out',
  'juicepod-webhook /secrets update': 'a step of the authority’s rotation, every eight months',
};

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

/** `account group/resource verb`, of every role that is bound to an account of ours. */
function grantedRights(manifests: readonly Manifest[]): Set<string> {
  const rights = new Set<string>();
  for (const binding of manifests.filter(({ kind }) => kind.endsWith('RoleBinding'))) {
    const { kind, name } = binding['roleRef'] as { kind: string; name: string };
    const role = manifests.find(
      (one) => one.kind === kind && one.metadata.name === name && one.metadata.namespace === binding.metadata.namespace,
    );
    assert.ok(role, `${binding.metadata.name} binds a role that is not there`);
    for (const subject of binding['subjects'] as { name: string; namespace: string }[]) {
      assert.equal(subject.namespace, system);
      for (const rule of role['rules'] as Rule[])
        for (const group of rule.apiGroups)
          for (const resource of rule.resources)
            for (const verb of rule.verbs) rights.add(`${subject.name} ${group}/${resource} ${verb}`);
    }
  }
  return rights;
}

interface AuditEvent {
  readonly verb: string;
  readonly user: { readonly username: string };
  readonly objectRef?: {
    readonly apiGroup?: string;
    readonly resource?: string;
    readonly subresource?: string;
    readonly namespace?: string;
    readonly name?: string;
  };
  readonly requestURI: string;
  readonly responseStatus?: { readonly code?: number };
}

/** What the accounts did. */
function calls(file: string): readonly AuditEvent[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as AuditEvent);
}

/** Where namespaces cannot be watched, they are looked at every second: it is long enough to wait for what they are labelled. */
const clock: Clock = {
  ...systemClock,
  sleep: (ms, signal) => systemClock.sleep(ms === LOOK_MS ? 1000 : ms, signal),
};

const accountOf = ({ user }: AuditEvent): string => user.username.split(':').at(-1) ?? '';

async function life(installed: Installed, redisPort: number): Promise<void> {
  const { api, attempt, folder } = installed;
  const apply = (object: object): Promise<string> => api.kubectl(['apply', '-f', '-'], JSON.stringify(object));
  const wait = (condition: string): Promise<string> =>
    api.kubectl(['-n', 'team-a', 'wait', `--for=${condition}`, 'jv/datasets', '--timeout=30s']);
  await api.kubectl(['-n', 'team-a', 'create', 'secret', 'generic', 'redis', '--from-literal=password=secret']);
  await apply({
    apiVersion: 'juicepod.io/v1alpha1',
    kind: 'JuiceCachePolicy',
    metadata: { name: 'p', namespace: 'team-a' },
    spec: {},
  });
  await apply({
    apiVersion: 'juicepod.io/v1alpha1',
    kind: 'JuiceVolume',
    metadata: { name: 'datasets', namespace: 'team-a' },
    spec: {
      metadata: { redis: { addresses: [`127.0.0.1:${redisPort}`], authSecretRef: { name: 'redis' } } },
      storage: { file: { path: join(folder, 'blocks') } },
      access: { allowedNamespaces: { from: 'Selector', selector: { matchLabels: { team: 'b' } } } },
      cachePolicyRef: { name: 'p' },
    },
  });
  await wait('condition=Ready');
  await api.kubectl(['-n', 'team-a', 'wait', '--for=jsonpath={.status.usedBy}=1', 'jcp/p', '--timeout=30s']);
  // The webhook knows the volume, and answers for it.
  const pod = (namespace: string): string =>
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'app', namespace, annotations: { 'juicepod.io/volumes': 'team-a/datasets=/data' } },
      spec: { containers: [{ name: 'main', image: 'busybox' }] },
    });
  await until('the webhook answers about the volume', async () => {
    const { output } = await attempt(['create', '--dry-run=server', '-f', '-'], pod('team-a'));
    return /VolumeIsLocal/.test(output);
  });
  assert.match((await attempt(['create', '--dry-run=server', '-f', '-'], pod('team-b'))).output, /NotAllowed|VolumeNotFound/);

  // A namespace that is allowed later gets its Secret, and loses it again.
  const hasSecret = async (): Promise<boolean> =>
    (await attempt(['-n', 'team-b', 'get', 'secret', 'juicepod-mount.team-a.datasets'])).ok;
  await api.kubectl(['label', 'namespace', 'team-b', 'team=b']);
  await until('the Secret is there', hasSecret);
  await api.kubectl(['label', 'namespace', 'team-b', 'team-']);
  await until('the Secret is gone', async () => !(await hasSecret()));

  await api.kubectl(['-n', 'team-a', 'delete', 'jv', 'datasets', '--timeout=30s']);
}

for (const [overlay, namespaces] of [
  ['default', undefined],
  ['namespaced', ['team-a', 'team-b']],
] as const)
  test(`config/${overlay}: nothing that operator and webhook do is refused, and no right is without use`, async (t) => {
    const scratch = mkdtempSync(join(tmpdir(), 'juicepod-rights-'));
    t.after(() => rmSync(scratch, { recursive: true, force: true }));
    const log = join(scratch, 'audit.log');
    const policy = join(scratch, 'policy.json');
    const users = ['operator', 'webhook'].map((name) => `system:serviceaccount:${system}:juicepod-${name}`);
    writeFileSync(
      policy,
      JSON.stringify({
        apiVersion: 'audit.k8s.io/v1',
        kind: 'Policy',
        omitStages: ['RequestReceived'],
        rules: [{ level: 'Metadata', users }, { level: 'None' }],
      }),
    );
    let installed: Installed;
    try {
      installed = await install(overlay, {
        namespaces: ['team-a', 'team-b', 'elsewhere'],
        flags: [`--audit-policy-file=${policy}`, `--audit-log-path=${log}`],
      });
    } catch (error) {
      if (error instanceof ToolMissing) return t.skip(error.message);
      throw error;
    }
    await using _ = installed;
    await using redis = await startRedis(['--appendonly', 'yes', '--requirepass', 'secret']);
    const stop = new AbortController();
    const scope = namespaces ? { namespaces } : {};
    const operator = runOperator({
      client: await installed.clientOf('juicepod-operator'),
      namespace: system,
      log: nullLogger,
      clock,
      signal: stop.signal,
      ...scope,
    });
    const webhook = runWebhook(
      {
        client: await installed.clientOf('juicepod-webhook'),
        namespace: system,
        log: nullLogger,
        port: installed.port,
        host: '127.0.0.1',
        names: ['127.0.0.1'],
        drainMs: 10,
        ...scope,
      },
      stop.signal,
    );
    for (const running of [operator, webhook]) running.catch(() => {});
    try {
      await life(installed, redis.port);
    } finally {
      stop.abort(new Error('the test is over'));
      await Promise.allSettled([operator, webhook]);
    }
    const done = calls(log);
    assert.ok(done.length > 50, `${done.length} calls were written down`);
    const refused = done.filter(({ responseStatus }) => responseStatus?.code === 401 || responseStatus?.code === 403);
    assert.deepEqual(
      refused.map((call) => `${accountOf(call)} ${call.verb} ${call.requestURI}`),
      [],
    );
    const used = new Set(
      done.map((call) => {
        const { apiGroup = '', resource = '', subresource } = call.objectRef ?? {};
        return `${accountOf(call)} ${apiGroup}/${resource}${subresource ? `/${subresource}` : ''} ${call.verb}`;
      }),
    );
    // A Role gives no right to these, though the rule that it was made of names them.
    const empty = (right: string): boolean => namespaces !== undefined && / \/namespaces (list|watch)$/.test(right);
    const granted = [...grantedRights(installed.manifests)];
    // A watch gives what there is first; servers that cannot do that are asked for lists.
    const streamed = (right: string): boolean => used.has(right.replace(/ list$/, ' watch'));
    const idle = granted.filter((right) => !used.has(right) && !(right in unseen) && !empty(right) && !streamed(right));
    assert.deepEqual(idle, []);
    if (namespaces) {
      const outside = done.filter(({ objectRef, requestURI }) => {
        const namespace = objectRef?.namespace ?? '';
        const own = ['mutatingwebhookconfigurations', 'selfsubjectreviews'].includes(objectRef?.resource ?? '');
        return objectRef && !own && ![...namespaces, system].includes(namespace) && requestURI.startsWith('/api');
      });
      assert.deepEqual(
        outside.map((call) => `${accountOf(call)} ${call.verb} ${call.requestURI}`),
        [],
      );
    }
  });
