/**
 * The schemas of the resources on a real API server: each sample is accepted or refused as samples.ts says; each bound, pattern and list of
 * words of a field refuses what lies beyond it, and names the field; and together the samples hold every field and break every rule.
 */
import assert from 'node:assert/strict';
import { join, resolve } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { customResourceDefinition, fields, type Schema } from '../../src/api/crd.ts';
import { JuiceCachePolicies, JuiceVolumes, kinds } from '../../src/api/kinds.ts';
import { connect } from '../../src/kube/client.ts';
import { ApiError } from '../../src/kube/errors.ts';
import type { KubeClient, KubeObject, ResourceClient } from '../../src/kube/types.ts';
import { type ApiServer, startApiServer } from '../cluster/api-server.ts';
import { ToolMissing } from '../tools.ts';
import { accepted, changes, minimal, refused, type SampleKind, type Spec } from './samples.ts';

const root = resolve(import.meta.dirname, '..', '..');
const namespace = 'default';
let api: ApiServer | undefined;
let client: KubeClient | undefined;
let missing = '';

before(async () => {
  try {
    api = await startApiServer();
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    missing = error.message;
    return;
  }
  await api.kubectl(['apply', '--server-side', '-k', join(root, 'crds')]);
  await api.kubectl(['wait', '--for=condition=Established', 'crd', '--all', '--timeout=30s']);
  client = connect({ kubeconfig: api.kubeconfig, requestsPerSecond: 1000, burst: 1000 });
});
after(async () => {
  await client?.close();
  await api?.stop();
});

const resources = { JuiceVolume: JuiceVolumes, JuiceCachePolicy: JuiceCachePolicies };

/** The kind's calls, or undefined after a skip. */
function calls(t: TestContext, kind: SampleKind): ResourceClient | undefined {
  if (!client) t.skip(missing);
  return client?.resource(resources[kind]);
}

const sample = (kind: SampleKind, spec: Spec, name = 'sample') => ({
  metadata: { name, namespace },
  spec: { ...minimal[kind], ...spec },
});

/** What the API server has refused: fields and messages. */
const refusals: { readonly kind: SampleKind; readonly field: string; readonly message: string }[] = [];

/** `field: message` for each cause of a refusal. */
async function refusal(kind: SampleKind, attempt: Promise<unknown>): Promise<string> {
  const error: unknown = await attempt.then(
    () => undefined,
    (cause: unknown) => cause,
  );
  assert.ok(error instanceof ApiError, 'it was accepted');
  assert.equal(error.code, 422, error.message);
  const causes = error.details?.causes ?? [];
  for (const { field = '', message = '' } of causes) refusals.push({ kind, field, message });
  return causes.map(({ field, message }) => `${field}: ${message}`).join('\n');
}

for (const [what, kind, spec] of accepted)
  test(`the API server accepts a ${kind} with ${what}`, async (t) => {
    await calls(t, kind)?.create(sample(kind, spec), { dryRun: true });
  });

for (const [what, kind, spec, message] of refused)
  test(`the API server refuses a ${kind} with ${what}, and says why`, async (t) => {
    const of = calls(t, kind);
    if (of) assert.match(await refusal(kind, of.create(sample(kind, spec), { dryRun: true })), message);
  });

for (const [what, kind, before, after, message] of changes)
  test(`the API server refuses to change a ${kind} that is there: ${what}`, async (t) => {
    const of = calls(t, kind);
    if (!of) return;
    const made = await of.create(sample(kind, before, 'changed'));
    const { resourceVersion } = made.metadata;
    const replacement = sample(kind, after, 'changed');
    const change = of.replace({ ...replacement, metadata: { ...replacement.metadata, resourceVersion } }, { dryRun: true });
    try {
      assert.match(await refusal(kind, change), message);
    } finally {
      await of.delete({ namespace, name: 'changed' });
    }
  });

test('the API server refuses a name that JuiceFS does not take, unless volumeName is given', async (t) => {
  const of = calls(t, 'JuiceVolume');
  if (!of) return;
  assert.match(
    await refusal('JuiceVolume', of.create(sample('JuiceVolume', {}, 'a.b'), { dryRun: true })),
    /without spec\.volumeName/,
  );
  await of.create(sample('JuiceVolume', { volumeName: 'datasets' }, 'a.b'), { dryRun: true });
});

test('the API server fills in every default of a JuiceCachePolicy', async (t) => {
  const made = await calls(t, 'JuiceCachePolicy')?.create(sample('JuiceCachePolicy', {}), { dryRun: true });
  if (!made) return;
  assert.deepEqual((made as KubeObject & { spec: unknown }).spec, {
    local: {
      medium: 'EphemeralDisk',
      size: '4Gi',
      freeSpacePercent: 10,
      eviction: '2-random',
      expire: '0s',
      verifyChecksum: 'extend',
    },
    readahead: { max: '32Mi' },
    buffer: { size: '300Mi' },
    metadata: { attrTTL: '1s', entryTTL: '1s', dirTTL: '1s', negativeTTL: '0s', openCache: '0s' },
    io: { maxUploads: 20, maxDownloads: 200 },
    writeback: { enabled: false, maxStaging: '4Gi', uploadDelay: '0s', drainTimeout: '60s' },
  });
});

test('an object that nobody has looked at yet says so, or kstatus would take it for finished', async (t) => {
  for (const kind of ['JuiceVolume', 'JuiceCachePolicy'] as const) {
    const made = await calls(t, kind)?.create(sample(kind, {}), { dryRun: true });
    if (made) assert.deepEqual((made as KubeObject & { status?: unknown }).status, { observedGeneration: -1 });
  }
});

const schemas = new Map(
  kinds.map((kind) => {
    const { versions } = customResourceDefinition(kind)['spec'] as {
      readonly versions: readonly [{ readonly schema: { readonly openAPIV3Schema: Schema } }];
    };
    return [kind.kind, versions[0].schema.openAPIV3Schema] as const;
  }),
);

type Path = readonly (string | number)[];

/** Each value of a sample that a schema says something of. */
function* values(schema: Schema, value: unknown, path: Path): Generator<{ path: Path; schema: Schema; value: unknown }> {
  yield { path, schema, value };
  if (Array.isArray(value)) {
    if (value[0] !== undefined) yield* values(schema['items'] as Schema, value[0], [...path, 0]);
    return;
  }
  if (typeof value !== 'object' || value === null) return;
  for (const [name, member] of Object.entries(value)) {
    const below = (schema['properties'] as Record<string, Schema> | undefined)?.[name] ?? schema['additionalProperties'];
    if (typeof below === 'object') yield* values(below as Schema, member, [...path, name]);
  }
}

/** Values that a field must refuse: of another type, beyond a bound, against a pattern, not in the list. */
function beyond(schema: Schema, value: unknown): readonly unknown[] {
  const { type, minimum, maximum, minLength, maxLength, maxItems, maxProperties, pattern } = schema as Record<string, unknown>;
  const wrong: unknown[] = [];
  if (schema['enum']) wrong.push('Bogus');
  if (type === 'integer') wrong.push('1', 1.5);
  if (type === 'boolean') wrong.push('true', 1);
  if (type === 'string') wrong.push(1, true);
  if (type === 'object' || type === 'array') wrong.push('text');
  if (typeof minimum === 'number') wrong.push(minimum - 1);
  // What is beyond the safe integers no number of JSON can say here.
  if (typeof maximum === 'number') wrong.push(maximum + 1);
  if (typeof minLength === 'number' && minLength > 0) wrong.push('');
  if (typeof maxLength === 'number') wrong.push('x'.repeat(maxLength + 1));
  if (typeof pattern === 'string') wrong.push('\u0000 \n');
  if (typeof maxItems === 'number' && Array.isArray(value))
    wrong.push(Array.from({ length: maxItems + 1 }, () => value[0] as unknown));
  if (typeof maxProperties === 'number')
    wrong.push(Object.fromEntries(Array.from({ length: maxProperties + 1 }, (_, index) => [`k${index}`, '1'])));
  return wrong;
}

function withValue(object: unknown, path: Path, value: unknown): unknown {
  const [head, ...rest] = path;
  if (head === undefined) return value;
  if (Array.isArray(object)) return object.map((each: unknown, index) => (index === head ? withValue(each, rest, value) : each));
  return { ...(object as object), [head]: withValue((object as Spec)[head as string], rest, value) };
}

const spelled = (path: Path): string =>
  path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${part}`))
    .join('')
    .slice(1);

for (const { kind } of kinds)
  test(`each bound, pattern and list of words of a ${kind} refuses what lies beyond it, and names the field`, async (t) => {
    const of = calls(t, kind);
    if (!of) return;
    const seen = new Set<string>();
    for (const [what, owner, spec] of accepted) {
      if (owner !== kind) continue;
      const whole = sample(kind, spec);
      for (const { path, schema, value } of values(schemas.get(kind) ?? {}, whole, [])) {
        const name = spelled(path);
        if (path[0] !== 'spec' || seen.has(name.replaceAll(/\[\d+\]/g, '[]'))) continue;
        seen.add(name.replaceAll(/\[\d+\]/g, '[]'));
        for (const wrong of beyond(schema, value)) {
          const told = await refusal(kind, of.create(withValue(whole, path, wrong) as typeof whole, { dryRun: true })).catch(
            (error: unknown) => assert.fail(`${what}: ${name} = ${JSON.stringify(wrong)}: ${String(error)}`),
          );
          // A list is also named by what is wrong in it.
          assert.ok(told.includes(name), `${what}: ${name} = ${JSON.stringify(wrong)} is refused as: ${told}`);
        }
      }
    }
  });

test('the accepted samples hold every field of the spec', () => {
  for (const { kind } of kinds) {
    const schema = schemas.get(kind) ?? {};
    const held = new Set<string>();
    for (const [, owner, spec] of accepted)
      if (owner === kind)
        for (const { path } of values(schema, sample(kind, spec), []))
          held.add(
            spelled(path)
              .replaceAll(/\[\d+\]/g, '[]')
              .replace(/(requests|limits|matchLabels)\.\w+$/, '$1.*'),
          );
    const all = [...fields(schema)].map(({ path }) => path).filter((path) => path.startsWith('spec.'));
    assert.deepEqual(
      all.filter((path) => !held.has(path)),
      [],
      kind,
    );
  }
});

test('the refused samples and changes break every rule of the schemas', (t) => {
  if (!client) return t.skip(missing);
  const unbroken: string[] = [];
  for (const { kind } of kinds) {
    const schema = schemas.get(kind) ?? {};
    for (const { path, schema: field } of [{ path: '', schema }, ...fields(schema)]) {
      if (path.startsWith('status')) continue;
      for (const { message } of (field['x-kubernetes-validations'] ?? []) as readonly { readonly message: string }[]) {
        const broken = refusals.some(
          (each) =>
            each.kind === kind &&
            each.field.replaceAll(/\[\d+\]/g, '[]').replace('<nil>', '') === path &&
            each.message.includes(message),
        );
        if (!broken) unbroken.push(`${kind} ${path}: ${message}`);
      }
    }
  }
  assert.deepEqual(unbroken, []);
});
