/** `juicepod analyze` on a real API server with the real webhook: a pod that is well, and then each cause, put there one by one. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { createAuthority } from '../../src/admission/x509.ts';
import type { Finding } from '../../src/cli/cluster/findings.ts';
import { connect } from '../../src/kube/client.ts';
import { system } from '../packaging/installed.ts';
import { freePort } from '../servers.ts';
import { run } from './command.ts';
import {
  type Json,
  root,
  installed,
  kubectl,
  apply,
  configuration,
  settle,
  withBundle,
  pod,
  findingsOf,
  findingsOfPod,
  reasons,
  lease,
  endpoints,
  onCluster,
} from './analyze-world.ts';

onCluster('where all is well nothing is found: for a manifest, a workload and a pod that was injected', async () => {
  assert.deepEqual(await findingsOf(pod('app', 'datasets=/data')), []);
  await installed.api.kubectl(['create', '-f', '-'], JSON.stringify(pod('well', 'datasets=/data')));
  assert.deepEqual(await findingsOfPod('well'), []);
  const template = {
    metadata: { labels: { app: 'a' }, annotations: { 'juicepod.io/volumes': 'datasets=/data' } },
    spec: (pod('a', '') as { spec: Json }).spec,
  };
  await apply({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'work', namespace: 'team-a' },
    spec: { selector: { matchLabels: { app: 'a' } }, template },
  });
  assert.deepEqual(await findingsOfPod('deployment/work'), []);
  assert.deepEqual(await findingsOfPod('deploy.apps/work'), []);
});

/** What is asked for, and what stands in its way. */
const asked: readonly (readonly [reason: string, object: () => Json, message: RegExp])[] = [
  ['NotAnnotated', () => pod('a', undefined), /has no annotation juicepod\.io\/volumes/],
  [
    'NotAnnotated',
    () => pod('a', undefined, { annotations: { 'juicepod.io/volume': 'a=/a' } }),
    /has no annotation juicepod\.io\/volumes \(juicepod\.io\/volume is not it\)/,
  ],
  [
    'NotAnnotated',
    () => ({
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'a', namespace: 'team-a', annotations: { 'juicepod.io/volumes': 'a=/a' } },
      spec: {
        selector: { matchLabels: { app: 'a' } },
        template: { metadata: { labels: { app: 'a' } }, spec: (pod('a', '') as { spec: Json }).spec },
      },
    }),
    /in its pod template \(it is on the Deployment itself, where it has no effect\)/,
  ],
  ['AnnotationInvalid', () => pod('a', 'datasets'), /"datasets" has no "="/],
  [
    'PodOptedOut',
    () => pod('a', 'datasets=/data', { labels: { 'juicepod.io/inject': 'false' } }),
    /labelled juicepod\.io\/inject=false/,
  ],
  ['VolumeNotFound', () => pod('a', 'nowhere=/data'), /there is no volume "nowhere" in namespace "team-a" \(there: .*datasets/],
  ['VolumeNotReady', () => pod('a', 'broken=/data'), /MetadataUnreachable: redis:6379 does not answer/],
  [
    'CachePolicyNotFound',
    () => pod('a', '[{name: datasets, mountPath: /data, cachePolicy: nowhere}]'),
    /JuiceCachePolicy "nowhere"/,
  ],
  [
    'PathTaken',
    () =>
      pod(
        'a',
        'datasets=/data',
        {},
        {
          volumes: [{ name: 'v', emptyDir: {} }],
          containers: [{ name: 'main', image: 'x', volumeMounts: [{ name: 'v', mountPath: '/data' }] }],
        },
      ),
    /already mounts volume "v"/,
  ],
  ['Warned', () => pod('a', 'hasty=/data'), /JuiceCachePolicy "nowhere" of volume "hasty" does not exist/],
];
for (const [reason, object, message] of asked)
  onCluster(`asked for in vain: ${reason}`, async () => {
    const findings = await findingsOf(object());
    assert.ok(reasons(findings).includes(reason), JSON.stringify(findings));
    assert.match(findings.find((each) => each.reason === reason)?.message ?? '', message);
    assert.ok(findings.every(({ todo }) => todo.length > 10));
  });

onCluster('a namespace that is not granted, and one that Pod Security restricts', async () => {
  const guest = await findingsOf(pod('a', 'team-a/datasets=/data', { namespace: 'team-b' }));
  assert.ok(reasons(guest).includes('NamespaceNotAllowed'), JSON.stringify(guest));
  await kubectl('label', 'namespace', 'team-a', 'pod-security.kubernetes.io/enforce=restricted');
  const strict = await findingsOf(pod('a', 'datasets=/data', {}, { containers: [{ name: 'main', image: 'x' }] }));
  // Refused, or given a mode that needs no privilege: what the webhook decides is what is said.
  assert.ok(
    strict.length === 0 || reasons(strict).some((each) => each === 'PodSecurity' || each === 'RefusedByOthers'),
    JSON.stringify(strict),
  );
  await kubectl('label', 'namespace', 'team-a', 'pod-security.kubernetes.io/enforce-');
});

onCluster('a namespace that opted out, or that the configuration leaves out', async () => {
  await kubectl('label', 'namespace', 'team-b', 'juicepod.io/injection=disabled');
  const out = await findingsOf(pod('a', 'datasets=/data', { namespace: 'team-b' }));
  assert.ok(reasons(out).includes('NamespaceOptedOut'));
  assert.ok(!reasons(out).includes('NamespaceExcluded'));
  await kubectl('label', 'namespace', 'team-b', 'juicepod.io/injection-');
  const kube = await findingsOf(pod('a', 'datasets=/data', { namespace: 'kube-system' }));
  assert.ok(reasons(kube).includes('NamespaceExcluded'), JSON.stringify(kube));
});

/** What is wrong with the webhook's configuration, and how it is made so. */
const misconfigured: readonly (readonly [reason: string, change: () => Promise<(one: Json) => Json>])[] = [
  ['PodExcluded', async () => (one) => ({ ...one, objectSelector: { matchLabels: { special: 'yes' } } })],
  ['FailsOpen', async () => (one) => ({ ...one, failurePolicy: 'Ignore' })],
  ['CaBundleEmpty', async () => (one) => ({ ...one, clientConfig: { ...(one['clientConfig'] as Json), caBundle: undefined } })],
  ['CaBundleDamaged', async () => withBundle('-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n')],
  ['CaBundleExpired', async () => withBundle((await createAuthority(Date.now() - 2 * 365 * 86_400_000)).certificate.pem)],
  ['CaBundleEnding', async () => withBundle((await createAuthority(Date.now() - 364.5 * 86_400_000)).certificate.pem)],
  ['CertificateNotTrusted', async () => withBundle((await createAuthority(Date.now())).certificate.pem)],
  [
    'WebhookUnreachable',
    async () => {
      const port = await freePort();
      return (one) => ({ ...one, clientConfig: { ...(one['clientConfig'] as Json), url: `https://127.0.0.1:${port}/mutate` } });
    },
  ],
  ['NotInjected', async () => (one) => ({ ...one, matchConditions: [{ name: 'never', expression: 'false' }] })],
];
for (const [reason, change] of misconfigured)
  onCluster(`the webhook's configuration: ${reason}`, async () => {
    const undo = await configuration(await change());
    try {
      const findings = await findingsOf(pod('a', 'datasets=/data'));
      assert.ok(reasons(findings).includes(reason), JSON.stringify(findings));
    } finally {
      await undo();
    }
    assert.deepEqual(await findingsOf(pod('a', 'datasets=/data')), []);
  });

onCluster('parts that are not there, or do not work', async () => {
  const expect = async (reason: string): Promise<void> => {
    const found = reasons(await findingsOf(pod('a', 'datasets=/data')));
    assert.ok(found.includes(reason), `${reason} is not among ${found.join(', ')}`);
  };
  await endpoints(false);
  await expect('WebhookDown');
  await endpoints(true);
  await lease(Date.now() - 3_600_000);
  await expect('OperatorAway');
  await kubectl('delete', 'lease', 'juicepod-operator', '-n', system);
  await expect('OperatorAway');
  await lease(Date.now() + 3_600_000);
  for (const [name, reason] of [
    ['juicepod-webhook', 'WebhookNotInstalled'],
    ['juicepod-operator', 'OperatorNotInstalled'],
  ] as const) {
    const saved = installed.manifests.find(({ kind, metadata }) => kind === 'Deployment' && metadata.name === name);
    await kubectl('delete', 'deployment', name, '-n', system);
    await expect(reason);
    await apply(saved ?? {});
  }
  const saved = await kubectl('get', 'mutatingwebhookconfiguration', 'juicepod-webhook', '-o', 'json');
  await kubectl('delete', 'mutatingwebhookconfiguration', 'juicepod-webhook');
  await settle();
  await expect('WebhookMissing');
  const { metadata, ...rest } = JSON.parse(saved) as Json;
  const { name, labels } = metadata as Json;
  await installed.api.kubectl(['create', '-f', '-'], JSON.stringify({ ...rest, metadata: { name, labels } }));
  await settle();
  await kubectl('delete', 'secret', 'juicepod-mount-datasets', '-n', 'team-a');
  await expect('MountSecretMissing');
  await apply({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'juicepod-mount-datasets', namespace: 'team-a' },
    type: 'juicepod.io/mount',
  });
  await apply({
    apiVersion: 'v1',
    kind: 'ResourceQuota',
    metadata: { name: 'none', namespace: 'team-a' },
    spec: { hard: { pods: '0' } },
  });
  await kubectl(
    'patch',
    'resourcequota',
    'none',
    '-n',
    'team-a',
    '--subresource=status',
    '--type=merge',
    '-p',
    '{"status":{"hard":{"pods":"0"},"used":{"pods":"0"}}}',
  );
  await expect('RefusedByOthers');
  await kubectl('delete', 'resourcequota', 'none', '-n', 'team-a');
});

onCluster('who may read little is told what could not be looked at', async () => {
  const guest = connect({
    kubeconfig: await installed.kubeconfigOf('default').catch(async () => {
      await kubectl('create', 'serviceaccount', 'default', '-n', system);
      return await installed.kubeconfigOf('default');
    }),
  });
  const findings = await findingsOf(pod('a', 'datasets=/data'), guest);
  await guest.close();
  assert.deepEqual([...new Set(findings.map(({ severity }) => severity))], ['unknown'], JSON.stringify(findings));
  assert.ok(reasons(findings).includes('NotTried'));
  assert.match(findings.map(({ message }) => message).join('\n'), /JuiceVolume team-a\/datasets could not be read: .*forbidden/);
});

onCluster('a pod that is there without sidecars, and one that another webhook damaged', async () => {
  await installed.api.kubectl(['create', '-f', '-'], JSON.stringify(pod('late', undefined)));
  await kubectl('annotate', 'pod', 'late', '-n', 'team-a', 'juicepod.io/volumes=datasets=/data');
  assert.deepEqual(reasons(await findingsOfPod('late')), ['SlippedThrough']);
  const damaged = pod(
    'stripped',
    'datasets=/data',
    { labels: { 'juicepod.io/inject': 'false' } },
    { initContainers: [{ name: 'juicepod-client', image: 'x', args: ['mount'] }] },
  );
  await installed.api.kubectl(['create', '-f', '-'], JSON.stringify(damaged));
  assert.ok(reasons(await findingsOfPod('stripped')).includes('SidecarStripped'));
});

async function addEvent(name: string, about: { readonly reason: string; readonly message: string }): Promise<void> {
  const uid = await kubectl('get', 'pod', name, '-n', 'team-a', '-o', 'jsonpath={.metadata.uid}');
  await apply({
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { name: `${name}.1`, namespace: 'team-a' },
    involvedObject: { apiVersion: 'v1', kind: 'Pod', name, namespace: 'team-a', uid },
    type: 'Warning',
    ...about,
  });
}

const waiting = (reason: string): Json => ({ state: { waiting: { reason, message: 'no such thing' } } });
const terminated = (exitCode: number, reason = 'Error', message = ''): Json => ({
  restartCount: 3,
  state: { waiting: { reason: 'CrashLoopBackOff' } },
  lastState: { terminated: { exitCode, reason, message, startedAt: null, finishedAt: null } },
});
for (const [reason, state, message] of [
  ['ImageNotPulled', waiting('ImagePullBackOff'), /ImagePullBackOff: no such thing/],
  ['ContainerNotCreated', waiting('CreateContainerConfigError'), /no such thing/],
  ['NotStarted', { started: false, state: { running: {} } }, /do not answer yet/],
  [
    'ClientFailed',
    terminated(1, 'Error', 'first\nthe database refuses the password'),
    /ended with 1 and was started again 3 times; its last words: the database refuses/,
  ],
  ['OutOfMemory', terminated(137, 'OOMKilled'), /for want of memory/],
  ['VolumeGone', terminated(11), /the volume is gone, or is another one now/],
] as const)
  onCluster(`the state of the sidecar: ${reason}`, async () => {
    const name = `state-${reason.toLowerCase()}`;
    await installed.api.kubectl(['create', '-f', '-'], JSON.stringify(pod(name, 'datasets=/data')));
    const status = { name: 'juicepod-client', image: 'x', imageID: '', ready: false, restartCount: 0, lastState: {}, ...state };
    const patch = JSON.stringify({ status: { initContainerStatuses: [status] } });
    await kubectl('patch', 'pod', name, '-n', 'team-a', '--subresource=status', '--type=merge', '-p', patch);
    const findings = await findingsOfPod(name);
    assert.deepEqual(reasons(findings), [reason]);
    assert.match(findings[0]?.message ?? '', message);
  });

for (const [reason, state, event, message] of [
  [
    'WaitsForVolume',
    { started: true, restartCount: 1, state: { running: {} }, lastState: terminated(137)['lastState'] },
    { reason: 'Unhealthy', message: 'Readiness probe failed: /juicepod/mnt/0 waits for its volume: WRONGPASS invalid\n' },
    /cannot open its volume: .*WRONGPASS/,
  ],
  [
    'ClientHung',
    { started: true, ready: true, restartCount: 1, state: { running: {} }, lastState: terminated(137)['lastState'] },
    { reason: 'Killing', message: 'Init container juicepod-client failed liveness probe' },
    /it lived and did nothing any more/,
  ],
] as const)
  onCluster(`what the kubelet tells of the client’s probes: ${reason}`, async () => {
    const name = `probe-${reason.toLowerCase()}`;
    await installed.api.kubectl(['create', '-f', '-'], JSON.stringify(pod(name, 'datasets=/data')));
    const status = { name: 'juicepod-client', image: 'x', imageID: '', ready: false, ...state };
    const patch = JSON.stringify({ status: { initContainerStatuses: [status] } });
    await kubectl('patch', 'pod', name, '-n', 'team-a', '--subresource=status', '--type=merge', '-p', patch);
    await addEvent(name, event);
    const findings = await findingsOfPod(name);
    assert.deepEqual(reasons(findings), [reason]);
    assert.match(findings[0]?.message ?? '', message);
  });

for (const [reason, event] of [
  ['VolumeNotSetUp', 'FailedMount'],
  ['NotScheduled', 'FailedScheduling'],
  ['Evicted', 'Evicted'],
] as const)
  onCluster(`events of the pod: ${reason}`, async () => {
    const name = `event-${event.toLowerCase()}`;
    await installed.api.kubectl(['create', '-f', '-'], JSON.stringify(pod(name, 'datasets=/data')));
    await addEvent(name, { reason: event, message: 'this went wrong' });
    const findings = await findingsOfPod(name);
    assert.deepEqual(reasons(findings), [reason]);
    assert.match(findings[0]?.message ?? '', /this went wrong/);
  });

onCluster('the command, and the plugin of kubectl, say the same, and end with 1 where something is to be done', async () => {
  const { kubeconfig } = installed.api;
  const well = await run(['analyze', 'well', '-n', 'team-a', '--kubeconfig', kubeconfig]);
  assert.equal(well.code, 0, well.stderr);
  assert.match(well.stdout, /Pod team-a\/well: nothing stands in the way/);
  const late = await run(['analyze', 'late', '-n', 'team-a', '--kubeconfig', kubeconfig]);
  assert.equal(late.code, 1);
  assert.match(late.stdout, /^✗ SlippedThrough: .*\n {2}→ delete it/m);
  const json = await run(['cluster', 'analyze', 'late', '-n', 'team-a', '--kubeconfig', kubeconfig, '--output', 'json']);
  assert.deepEqual(reasons((JSON.parse(json.stdout) as { findings: Finding[] }).findings), ['SlippedThrough']);
  const nothing = await run(['analyze', 'nobody', '-n', 'team-a', '--kubeconfig', kubeconfig]);
  assert.equal(nothing.code, 1);
  assert.match(nothing.stderr, /there is no Pod nobody in namespace team-a/);

  const plugin = { env: { PATH: `${join(root, 'bin')}:${process.env['PATH'] ?? ''}`, KUBECONFIG: kubeconfig } };
  const overview = await run(['status'], { wrap: ['sh', '-c', 'shift; exec kubectl juicepod "$@"', 'sh'], ...plugin });
  assert.equal(overview.code, 0, overview.stderr);
  assert.match(overview.stdout, /^operator +0 of 2 available\nwebhook +0 of 2 available$/m);
  assert.match(overview.stdout, /^team-a +datasets +True +Succeeded/m);
  assert.match(overview.stdout, /^team-a +broken +False +MetadataUnreachable/m);
  assert.match(overview.stdout, /^team-a +well +Pending +not ready +0 +team-a\/datasets \(fuse\)$/m);
  const pods = await run(['cluster', 'pods', 'team-a/datasets', '--output', 'json'], plugin);
  const rows = JSON.parse(pods.stdout) as { name: string }[];
  assert.ok(rows.some(({ name }) => name === 'well'));
  assert.ok(!rows.some(({ name }) => name === 'late'));
  const unknown = await run(['cluster', 'pods', 'nowhere', '-n', 'team-a'], plugin);
  assert.match(unknown.stderr, /there is no JuiceVolume nowhere in namespace team-a/);
});

test('docs/analyze.md explains every finding, and no other', () => {
  const source = ['findings', 'sidecars']
    .map((name) => readFileSync(join(root, 'src/cli/cluster', `${name}.ts`), 'utf8'))
    .join('\n');
  const inCode = new Set(
    [
      ...source.matchAll(
        /(?:error|warning)\(\s*'([A-Z]\w+)'|'unknown',\s*'([A-Z]\w+)'|'warning',\s*'([A-Z]\w+)'|reason: '([A-Z]\w+)'/g,
      ),
    ].map((match) => match.slice(1).find(Boolean) ?? ''),
  );
  inCode.add('Refused');
  const page = readFileSync(join(root, 'docs/analyze.md'), 'utf8');
  const table = page.slice(page.indexOf('| finding |'), page.indexOf('## Looking around'));
  const inPage = new Set(
    [...table.matchAll(/^\| (.*?) \|/gm)].flatMap((row) =>
      [...(row[1] ?? '').matchAll(/`(\w+)`/g)].map((match) => match[1] ?? ''),
    ),
  );
  const sorted = (names: ReadonlySet<string>): string[] => [...names].toSorted();
  assert.deepEqual(sorted(inPage), sorted(inCode));
});
