import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiError } from '../../kube/errors.ts';
import { UserError } from '../../lib/errors.ts';
import { forPeople } from './connection.ts';
import { checks } from './findings.ts';
import type { Snapshot } from './snapshot.ts';

const absent = { state: 'absent' } as const;
const found = <T>(value: T) => ({ state: 'found', value }) as const;

const metadata = { annotations: { 'juicepod.io/volumes': 'datasets=/data' } };
const bare: Snapshot = {
  target: { kind: 'Deployment', name: 'web', namespace: 'team', exists: false, pod: { metadata, spec: { containers: [] } } },
  system: 'juicepod-system',
  now: 0,
  requests: [],
  annotationError: undefined,
  namespace: found({}),
  configuration: absent,
  endpoints: absent,
  webhook: absent,
  operator: absent,
  lease: absent,
  volumes: new Map(),
  volumeNames: new Map(),
  policies: new Map(),
  secrets: new Map(),
  events: absent,
  trial: { state: 'untouched' },
};
const findings = (snapshot: Snapshot) => checks.flatMap((check) => check(snapshot));
const reasons = (snapshot: Snapshot): readonly string[] => findings(snapshot).map(({ reason }) => reason);

test('where nothing of Juicepod is there one thing is to be done, and where a part is missing that part is named', () => {
  assert.deepEqual(reasons(bare), ['NotInstalled']);
  assert.match(findings(bare)[0]?.todo ?? '', /config\/default/);
  assert.deepEqual(reasons({ ...bare, operator: found({}), lease: found({ spec: { renewTime: '1970-01-01T00:00:00Z' } }) }), [
    'WebhookMissing',
    'WebhookNotInstalled',
  ]);
});

test('a webhook without a ready pod is the cause; what follows from it is not told as well', () => {
  const message =
    'failed calling webhook "pods.juicepod.io": failed to call webhook: tls: x509: certificate signed by unknown authority';
  const down: Snapshot = {
    ...bare,
    configuration: found({ webhooks: [{ name: 'pods.juicepod.io', clientConfig: { caBundle: '' } }] }),
    webhook: found({}),
    operator: found({}),
    lease: found({ spec: { renewTime: '1970-01-01T00:00:00Z' } }),
    endpoints: found(0),
    trial: { state: 'refused', reason: 'InternalError', message },
  };
  assert.deepEqual(reasons(down), ['WebhookDown']);
  assert.deepEqual(reasons({ ...down, endpoints: found(2) }), ['CaBundleEmpty', 'CertificateNotTrusted']);
});

test('pods of a controller that are refused come by themselves, a pod must be created again', () => {
  const volumes = { metadata: { annotations: { 'juicepod.io/volumes': 'nowhere=/data' } }, spec: { containers: [] } };
  const trial = {
    state: 'refused',
    reason: 'VolumeNotFound',
    message: 'admission webhook "pods.juicepod.io" denied the request: there is no volume "nowhere"',
  } as const;
  const todo = (kind: string, exists: boolean): string =>
    findings({
      ...bare,
      webhook: found({}),
      configuration: found({}),
      operator: found({}),
      endpoints: found(1),
      trial,
      target: { ...bare.target, kind, exists, pod: volumes },
    }).find(({ reason }) => reason === 'VolumeNotFound')?.todo ?? '';
  assert.match(todo('Deployment', false), /the pods of the Deployment come by themselves/);
  assert.match(todo('Pod', false), /then create the pod:/);
  assert.match(todo('Pod', true), /then create the pod again:/);
});

test('what an API server answers is told with the next step', () => {
  const server = 'https://cluster:6443';
  const told = (error: unknown): string => {
    const user = forPeople(error, server);
    return user instanceof UserError ? `${user.code}: ${user.hint}` : 'as it is';
  };
  assert.match(
    told(new ApiError(0, 'GET x failed: connect ECONNREFUSED', { reason: 'Unreachable' })),
    /^ClusterUnreachable: .*cluster-info/,
  );
  assert.match(told(new ApiError(401, 'Unauthorized')), /^NotLoggedIn: .*whoami/);
  assert.match(told(new ApiError(403, 'jv is forbidden')), /^Forbidden: .*juicepod-view/);
  assert.match(
    told(new ApiError(404, 'GET https://cluster:6443/apis/juicepod.io/v1alpha1/juicevolumes answered 404: 404 page not found')),
    /^NotInstalled: kubectl apply --server-side -k crds/,
  );
  assert.equal(told(new ApiError(404, 'juicevolumes.juicepod.io "a" not found')), 'as it is');
  assert.equal(told(new Error('a defect')), 'as it is');
});
