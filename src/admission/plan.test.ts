import assert from 'node:assert/strict';
import { test } from 'node:test';
import { annotations } from '../api/group.ts';
import { parsePlan } from '../api/plan.ts';
import type { Explanation } from './plan.ts';
import type { Json } from '../lib/json.ts';
import { defaultSettings } from './settings.ts';
import { admit, cluster, pod, policy, unready, volume } from './testing/fixtures.ts';
import type { Cluster } from './settings.ts';

const home = cluster([volume('datasets'), volume('checkpoints')]);

function refusal(object: Json, inside: Cluster = home, options: Parameters<typeof admit>[2] = {}): string {
  const { decision } = admit(object, inside, options);
  assert.equal(decision.action, 'refuse');
  return decision.action === 'refuse' ? `${decision.reason}: ${decision.message}` : '';
}

function injection(object: Json, inside: Cluster = home, options: Parameters<typeof admit>[2] = {}) {
  const { decision } = admit(object, inside, options);
  assert.equal(decision.action, 'inject', JSON.stringify(decision));
  assert.ok(decision.action === 'inject');
  return decision;
}

const modes = ({ explanation }: { explanation: Explanation }): string[] => explanation.volumes.map(({ mode }) => mode);

test('a pod without the annotation is left alone', () => {
  assert.deepEqual(admit(pod(undefined), home).decision, {
    action: 'ignore',
    reason: 'NotAnnotated',
    message: 'the pod has no annotation juicepod.io/volumes',
  });
});

test('pods and namespaces that opted out, and copies of static pods, are left alone', () => {
  const out = { labels: { 'juicepod.io/inject': 'false' }, annotations: { 'juicepod.io/volumes': 'datasets=/data' } };
  assert.equal(admit(pod(undefined, {}, out), home).decision.action, 'ignore');
  const disabled = cluster([volume('datasets')], [], { default: { 'juicepod.io/injection': 'disabled' } });
  assert.equal(admit(pod('datasets=/data'), disabled).decision.action, 'ignore');
  const mirror = { annotations: { 'juicepod.io/volumes': 'datasets=/data', 'kubernetes.io/config.mirror': 'x' } };
  assert.equal(admit(pod(undefined, {}, mirror), home).decision.action, 'ignore');
});

test('each bad pod is refused with a sentence that says what to do', () => {
  const several = cluster([volume('datasets'), volume('ro', { access: { readOnly: true } }), volume('c')]);
  const windows = { spec: { os: { name: 'windows' } } };
  const cases: readonly (readonly [Json, RegExp, Cluster?])[] = [
    [pod('datasets'), /^AnnotationInvalid: .*"datasets" has no "=".*Accepted: name=\/path/],
    [pod('nope=/data'), /^VolumeNotFound: there is no volume "nope" in namespace "default" \(there: datasets, checkpoints\)/],
    [pod('nope=/data'), /\(there: none\)/, cluster()],
    [
      pod('datasets=/data'),
      /^VolumeNotReady: volume "datasets" is not ready: MetadataUnreachable: no answer from redis:6379 \(see kubectl describe jv datasets -n default\)/,
      cluster([unready('datasets', 'MetadataUnreachable', 'no answer from redis:6379')]),
    ],
    [pod('datasets=/data'), /^VolumeNotReady: .*has not looked at it yet/, cluster([volume('datasets', {}, 'default', {})])],
    [pod('ro=/data'), /^VolumeReadOnly: .*write ro=\/data:ro/, several],
    [pod('datasets=/data', windows.spec), /^WindowsPod: /],
    [pod('datasets=/data', { nodeSelector: { 'kubernetes.io/os': 'windows' } }), /^WindowsPod: /],
    [pod('datasets=/data:fuse', { hostUsers: false }), /^UserNamespace: .*write mode: sync, or remove hostUsers/],
    [
      pod('datasets=/data', {
        containers: [{ name: 'main', volumeMounts: [{ name: 'scratch', mountPath: '/data/' }] }],
      }),
      /^PathTaken: volume "datasets" is to be mounted on "\/data", where container "main" already mounts volume "scratch"/,
    ],
    [
      pod('datasets=/data', { containers: [{ name: 'main', volumeDevices: [{ name: 'disk', devicePath: '/data' }] }] }),
      /^PathTaken: .*container "main" already mounts device "disk"/,
    ],
    [
      pod('[{name: datasets, mountPath: /data, containers: [other]}]'),
      /^ContainerNotFound: volume "datasets" is for container "other", which the pod does not have; it has main/,
    ],
    [
      pod('[{name: datasets, mountPath: /data, cachePolicy: fast}]'),
      /^CachePolicyNotFound: there is no JuiceCachePolicy "fast" in namespace "default"/,
    ],
    [
      pod('datasets=/data', { containers: [{ name: 'juicepod-client', image: 'mine' }] }),
      /^ContainerNameTaken: the pod has a container of its own named "juicepod-client"/,
    ],
    [
      pod('datasets=/data', { initContainers: [{ name: 'juicepod-holder', args: ['hold'], image: 'mine' }] }),
      /^ContainerNameTaken: /,
    ],
    [
      pod('datasets=/data', { volumes: [{ name: 'juicepod-mnt', hostPath: { path: '/' } }] }),
      /^VolumeNameTaken: the pod has a volume of its own named "juicepod-mnt"/,
    ],
    [
      pod('datasets=/data', { containers: [{ name: 'main', volumeMounts: [{ name: 'juicepod-mnt', mountPath: '/all' }] }] }),
      /^StrayMount: container "main" mounts "juicepod-mnt" on "\/all"/,
    ],
    [
      pod('local=/data'),
      /^VolumeIsLocal: /,
      cluster([volume('local', { metadata: { sqlite: { path: '/tmp/x.db' } }, storage: { file: { path: '/tmp/x' } } })]),
    ],
    [
      pod('datasets=/data'),
      /^VolumeDeleted: /,
      cluster([
        {
          ...volume('datasets'),
          metadata: { name: 'datasets', namespace: 'default', deletionTimestamp: '2026-01-01T00:00:00Z' },
        },
      ]),
    ],
    [
      pod('datasets=/data'),
      /^MemoryLimit: the client may use 256Mi of memory .* gives 300Mi to the buffer; raise the limit/,
      cluster([volume('datasets', { client: { resources: { limits: { memory: '256Mi' } } } })]),
    ],
    [
      pod('datasets=/data'),
      /^MemoryLimit: .*and 1Gi to a cache in memory/,
      cluster(
        [volume('datasets', { cachePolicyRef: { name: 'ram' }, client: { resources: { limits: { memory: '1Gi' } } } })],
        [policy('ram', { local: { medium: 'Memory', size: '1Gi' } })],
      ),
    ],
    [{ metadata: { annotations: { 'juicepod.io/volumes': 'datasets=/data' } } }, /^PodInvalid: /],
    [pod('datasets=/data', { containers: [null] }), /^PodInvalid: /],
  ];
  for (const [object, expected, inside] of cases) {
    const message = refusal(object, inside);
    assert.match(message, expected);
    assert.ok(message.length < 1000 && !message.includes('\n'), message);
  }
});

test('Pod Security of the namespace is foreseen: sync mode where it may be, else a refusal', () => {
  for (const level of ['baseline', 'restricted']) {
    const strict = cluster([volume('datasets')], [], { default: { 'pod-security.kubernetes.io/enforce': level } });
    assert.match(
      refusal(pod('datasets=/data:fuse'), strict),
      new RegExp(
        `^PodSecurity: .*enforce=${level}, which forbids the privileged container .*; write mode: sync, or run the pod in`,
      ),
    );
    assert.deepEqual(modes(injection(pod('datasets=/data'), strict)), ['sync']);
    assert.deepEqual(modes(injection(pod('datasets=/data'), strict, { settings: { checkPodSecurity: false } })), ['fuse']);
  }
  const open = cluster([volume('datasets')], [], { default: { 'pod-security.kubernetes.io/enforce': 'privileged' } });
  assert.deepEqual(modes(injection(pod('datasets=/data'), open)), ['fuse']);
});

test('a volume of another namespace is used only where it allows it, and unknown and forbidden read the same', () => {
  const labels = { default: { team: 'vision' }, other: {} };
  const shared = (allowedNamespaces: Json): Cluster =>
    cluster([volume('base', { access: { allowedNamespaces } }, 'shared')], [], labels);
  const wanted = pod('shared/base=/base:ro');
  const unknown = refusal(pod('shared/nope=/base'), shared({ from: 'Same' })).replace('nope', 'base');
  assert.equal(refusal(wanted, shared({ from: 'Same' })), unknown);
  assert.equal(admit(wanted, shared({ from: 'All' })).decision.action, 'inject');
  const selector = { matchExpressions: [{ key: 'team', operator: 'In', values: ['vision'] }] };
  assert.equal(admit(wanted, shared({ from: 'Selector', selector })).decision.action, 'inject');
  assert.match(refusal(wanted, shared({ from: 'Selector', selector }), { namespace: 'other' }), /^NamespaceNotAllowed: /);
  // A namespace that the caches do not know yet has no labels that could match.
  assert.match(refusal(wanted, shared({ from: 'Selector', selector: {} }), { namespace: 'new' }), /^NamespaceNotAllowed: /);
});

test('a volume brings its own client image to its namespace, and to others only what the administrator allows', () => {
  const image = 'registry.example/client:2';
  const inside = cluster([
    volume('own', { client: { image } }),
    volume('base', { client: { image }, access: { allowedNamespaces: { from: 'All' } } }, 'shared'),
  ]);
  assert.equal(injection(pod('own=/own'), inside).injection.sidecars[1]?.['image'], image);
  assert.match(refusal(pod('shared/base=/base'), inside), /^ImageNotAllowed: /);
  const allowed = { settings: { allowedImages: ['registry.example/'] } };
  assert.equal(injection(pod('shared/base=/base'), inside, allowed).injection.sidecars[1]?.['image'], image);
});

test('host-network pods and namespaces that are not known yet are no obstacle', () => {
  assert.equal(admit(pod('datasets=/data', { hostNetwork: true }), home).decision.action, 'inject');
  assert.equal(
    admit(pod('datasets=/data'), cluster([volume('datasets', {}, 'new')]), { namespace: 'new' }).decision.action,
    'inject',
  );
});

test('the plan is what the client can read, with the policy in numbers', () => {
  const inside = cluster(
    [volume('datasets', { cachePolicyRef: { name: 'fast' }, client: { logLevel: 'debug' } }), volume('checkpoints')],
    [
      policy('fast', {
        local: { size: '1536Mi', freeSpacePercent: 25, eviction: 'lru', expire: '36h', verifyChecksum: 'shrink' },
        buffer: { size: '1Gi' },
        readahead: { max: '8Mi' },
        metadata: { attrTTL: '500ms', entryTTL: '3s', dirTTL: '1m', negativeTTL: '1s', openCache: '2s' },
        io: { maxUploads: 5, maxDownloads: 7 },
      }),
    ],
  );
  const { plan, annotations: written } = injection(pod('datasets=/data:ro,checkpoints=/ckpt'), inside).injection;
  assert.deepEqual(parsePlan(written[annotations.plan] ?? ''), plan);
  assert.deepEqual(plan, {
    version: 1,
    mounts: [
      {
        id: '0',
        volume: 'default/datasets',
        config: '/etc/juicepod/volumes/0/volume.json',
        target: '/juicepod/mnt/0',
        subPath: '',
        readOnly: true,
      },
      {
        id: '1',
        volume: 'default/checkpoints',
        config: '/etc/juicepod/volumes/1/volume.json',
        target: '/juicepod/mnt/1',
        subPath: '',
        readOnly: false,
      },
    ],
    cache: {
      directory: '/juicepod/cache',
      sizeMiB: 1536,
      freeSpaceRatio: 0.25,
      eviction: 'lru',
      expire: 129_600,
      checksum: 'shrink',
    },
    journal: '/juicepod/cache',
    bufferMiB: 1024,
    readaheadMiB: 8,
    attrTTL: 0.5,
    entryTTL: 3,
    dirEntryTTL: 60,
    negativeTTL: 1,
    openCache: 2,
    maxUploads: 5,
    maxDownloads: 7,
    logLevel: 'debug',
  });
});

test('a policy without a cache leaves room for the journal of written data only', () => {
  const inside = cluster([volume('datasets')], [policy('none', { local: { medium: 'None' } })]);
  const { injection: given } = injection(pod('[{name: datasets, mountPath: /data, cachePolicy: none}]'), inside);
  assert.equal(given.plan.cache, undefined);
  const room = given.volumes.find((one) => one['name'] === 'juicepod-cache');
  assert.deepEqual(room, { name: 'juicepod-cache', emptyDir: { sizeLimit: '428Mi' } });
});

test('write-back and limits of a policy come into the plan, with room on the disk and time to upload', () => {
  const writeback = { enabled: true, maxStaging: '2Gi', uploadDelay: '1m30s', drainTimeout: '90s' };
  const io = { uploadLimit: '10Mi', downloadLimit: 65_536 };
  const slow = policy('slow', { local: { size: '1Gi' }, writeback, io, metadata: { maxOpsPerSecond: 50 } });
  const inside = cluster([volume('datasets')], [slow]);
  const { injection: given } = injection(pod('[{name: datasets, mountPath: /data, cachePolicy: slow}]'), inside);
  const { plan } = given;
  assert.deepEqual(plan.writeback, { maxStagingMiB: 2048, uploadDelay: 90, drainTimeout: 90 });
  assert.deepEqual([plan.uploadLimit, plan.downloadLimit, plan.maxMetadataOps], [10 * 2 ** 20, 65_536, 50]);
  assert.deepEqual(parsePlan(given.annotations[annotations.plan] ?? ''), plan);
  const room = given.volumes.find((one) => one['name'] === 'juicepod-cache');
  assert.deepEqual(room, { name: 'juicepod-cache', emptyDir: { sizeLimit: '3603Mi' } });
  assert.equal(given.terminationGracePeriodSeconds, 150);
});

test('a cache in memory is an emptyDir in memory with room to overshoot and for the journal', () => {
  const inside = cluster([volume('datasets')], [policy('ram', { local: { medium: 'Memory', size: '1Gi' } })]);
  const { injection: given } = injection(pod('[{name: datasets, mountPath: /data, cachePolicy: ram}]'), inside);
  const cache = given.volumes.find((one) => one['name'] === 'juicepod-cache');
  assert.deepEqual(cache, { name: 'juicepod-cache', emptyDir: { medium: 'Memory', sizeLimit: '1555Mi' } });
});

test('entries that want the same directory share a mount, others do not', () => {
  const text = JSON.stringify([
    { name: 'datasets', mountPath: '/data', containers: ['main'] },
    { name: 'default/datasets', mountPath: '/in', containers: ['side'] },
    { name: 'datasets', mountPath: '/ro', readOnly: true },
    { name: 'datasets', mountPath: '/sub', subPath: 'a/b' },
  ]);
  const two = pod(text, { containers: [{ name: 'main' }, { name: 'side' }] });
  const { plan, volumes, mounts } = injection(two).injection;
  assert.deepEqual(
    plan.mounts.map(({ id, subPath, readOnly }) => [id, subPath, readOnly]),
    [
      ['0', '', false],
      ['1', '', true],
      ['2', 'a/b', false],
    ],
  );
  assert.deepEqual(
    mounts.map(({ index, mount }) => [index, mount['mountPath'], mount['subPath']]),
    [
      [0, '/data', '0'],
      [1, '/in', '0'],
      [0, '/ro', '1'],
      [1, '/ro', '1'],
      [0, '/sub', '2'],
      [1, '/sub', '2'],
    ],
  );
  assert.deepEqual(
    volumes.filter((one) => 'secret' in one),
    [{ name: 'juicepod-secret-0', secret: { secretName: 'juicepod-mount-datasets', defaultMode: 0o400 } }],
  );
});

test('different policies, a missing one and nested mounts earn a warning', () => {
  const a = volume('a', { cachePolicyRef: { name: 'one' } });
  const b = volume('b', { cachePolicyRef: { name: 'two' } });
  const both = [policy('one', { buffer: { size: '64Mi' } }), policy('two')];
  const differ = injection(pod('a=/a,b=/b'), cluster([a, b], both));
  assert.match(differ.warnings.join(), /"a" and "b" have different cache policies; the pod's one client uses "one"/);
  assert.equal(differ.injection.plan.bufferMiB, 64);
  assert.match(
    injection(pod('a=/a'), cluster([a])).warnings.join(),
    /JuiceCachePolicy "one" of volume "a" does not exist; the default/,
  );
  const inner = pod('datasets=/data', {
    containers: [{ name: 'main', volumeMounts: [{ name: 'config', mountPath: '/data/config' }] }],
  });
  assert.match(injection(inner).warnings.join(), /container "main" mounts "\/data\/config" inside volume "datasets" on "\/data"/);
});

test('the client gets what the neediest volume asks for', () => {
  const resources = (requests: Json, limits?: Json): Json => ({ client: { resources: { requests, limits } } });
  const inside = cluster([
    volume('a', resources({ cpu: '2', memory: '1Gi' }, { memory: '2Gi' })),
    volume('b', resources({ cpu: '500m', memory: '1536Mi', 'ephemeral-storage': '1Gi' }, { memory: '1Gi' })),
  ]);
  assert.deepEqual(injection(pod('a=/a,b=/b'), inside).injection.sidecars[1]?.['resources'], {
    requests: { cpu: '2', memory: '1536Mi', 'ephemeral-storage': '1Gi' },
    limits: { memory: '2Gi' },
  });
  const { requests } = defaultSettings.clientResources;
  assert.deepEqual(injection(pod('datasets=/data')).injection.sidecars[1]?.['resources'], {
    requests: { ...requests, 'ephemeral-storage': '4934Mi' },
  });
  const plain = injection(pod('datasets=/data'), home, { settings: { requestDisk: false } });
  assert.deepEqual(plain.injection.sidecars[1]?.['resources'], { requests });
});

test('nothing secret is in the pod', () => {
  const { result } = admit(pod('datasets=/data,checkpoints=/ckpt'), home);
  assert.doesNotMatch(JSON.stringify(result), /redis|s3\.storage|bytes|"env/);
});

test('volumes of both modes stand in one pod, each with its sidecar, volume and mount', () => {
  const { injection: given, explanation } = injection(pod('datasets=/data,checkpoints=/ckpt:sync'));
  assert.deepEqual(
    given.sidecars.map((one) => one['name']),
    ['juicepod-holder', 'juicepod-client', 'juicepod-sync'],
  );
  assert.deepEqual(
    given.plan.mounts.map(({ id, target, mode }) => [id, target, mode]),
    [
      ['0', '/juicepod/mnt/0', undefined],
      ['1', '/juicepod/sync/1/tree', 'sync'],
    ],
  );
  assert.deepEqual(
    given.mounts.map(({ mount }) => [mount['mountPath'], mount['name']]),
    [
      ['/data', 'juicepod-mnt'],
      ['/ckpt', 'juicepod-sync-1'],
    ],
  );
  // The holder guards what is mounted, and nothing else.
  assert.deepEqual(given.sidecars[0]?.['args'], ['hold', '--socket', '/juicepod/run/hold.sock', '--mount', '/juicepod/mnt/0']);
  assert.deepEqual(
    explanation.volumes.map(({ volume: name, mode }) => [name, mode]),
    [
      ['datasets', 'fuse'],
      ['checkpoints', 'sync'],
    ],
  );
  assert.equal(given.annotations['juicepod.io/mode-reason'], 'sync: mode: sync was asked for');
  assert.deepEqual(given.labels, { 'juicepod.io/sync': 'true' });
});

test('a pod in sync mode alone has nothing privileged, no cache and no guard', () => {
  const { injection: given } = injection(pod('datasets=/data:sync'));
  assert.doesNotMatch(JSON.stringify(given.sidecars), /"privileged":true|Bidirectional/);
  const names = new Set(given.volumes.map((one) => one['name']));
  assert.deepEqual(names, new Set(['juicepod-plan', 'juicepod-run', 'juicepod-secret-0', 'juicepod-sync-0']));
  assert.equal(given.plan.cache, undefined);
  assert.equal(given.plan.journal, undefined);
});

test('what sync mode gives up is told where auto chose it, and not where it was asked for', () => {
  const forced = pod('datasets=/data', { hostUsers: false });
  assert.match(injection(forced).warnings.join('\n'), /"datasets" is in sync mode: .*hostUsers: false[\s\S]*no lock is shared/);
  assert.deepEqual(injection(pod('datasets=/data:sync')).warnings, []);
});

test('a platform that nobody knows is refused, and so is a mode that changes under an injected pod', () => {
  const odd = { annotations: { 'juicepod.io/volumes': 'datasets=/data', 'juicepod.io/platform': 'moon' } };
  assert.match(refusal(pod(undefined, {}, odd)), /^PlatformUnknown: the annotation .*"moon"; known are eks-fargate, /);
  const injected = admit(pod('datasets=/data'), home).result as { spec: Json };
  const moved = { ...injected, spec: { ...injected.spec, schedulerName: 'fargate-scheduler' } };
  assert.match(refusal(moved), /^ModeChanged: the pod was injected for mode fuse, .*the label juicepod\.io\/platform/);
  const synced = admit(pod('datasets=/data:sync'), home).result as { metadata: Json };
  const annotations = { ...(synced.metadata['annotations'] as Json), 'juicepod.io/volumes': 'datasets=/data:fuse' };
  assert.match(refusal({ ...synced, metadata: { ...synced.metadata, annotations } }), /^ModeChanged: .*for mode sync/);
});

test('the time that a client may take to begin is the administrator’s to set', () => {
  const hook = (startSeconds: number): string => {
    const { sidecars } = injection(pod('datasets=/data'), home, { settings: { startSeconds } }).injection;
    return JSON.stringify(sidecars[1]?.['lifecycle']);
  };
  // In steps of 0.05 s.
  assert.match(hook(60), /-lt 1200 .*sleep 0\.05/);
  assert.match(hook(3600), /-lt 72000 /);
});
