/** Every decision about keys and passphrases, one line each. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseJuiceVolume } from '../../api/kinds.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import type { Format } from '../../meta/format.ts';
import { decideKeys } from './encryption.ts';
import type { KeyMaterial } from './keys.ts';
import type { EncryptionSeen, MetadataObservation } from './observation.ts';
import type { SecretObject } from './secrets.ts';

const durability = { state: 'durable', message: 'x' } as const;
const empty: MetadataObservation = { state: 'empty', durability };
const away: MetadataObservation = { state: 'failed', reason: 'MetadataUnreachable', message: 'x' };
const holding = (encryptKey: string): MetadataObservation => ({
  state: 'volume',
  format: { encryptKey } as Format,
  usage: { bytes: 0, inodes: 0 },
  clients: [],
  staleSessions: 0,
  leaks: undefined,
  quotas: { own: [], others: undefined, failed: new Map(), done: new Set() },
  durability,
  holder: undefined,
});

function volume(encryption: Record<string, unknown> = {}, more: { uuid?: string; adopt?: object } = {}): JuiceVolume {
  const parsed = parseJuiceVolume({
    apiVersion: 'juicepod.io/v1alpha1',
    kind: 'JuiceVolume',
    metadata: { name: 'datasets', namespace: 'data' },
    spec: {
      metadata: { sqlite: { path: '/m.db' } },
      storage: { file: { path: '/b' } },
      encryption: { algorithm: 'AES256GCM', ...encryption },
      ...(more.adopt ? { adopt: more.adopt } : {}),
    },
  });
  return more.uuid === undefined ? parsed : { ...parsed, status: { uuid: more.uuid } };
}

const secret = (data: Record<string, string>): SecretObject => ({
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { name: 's' },
  data,
});

function seen(material: Partial<KeyMaterial>, more: Partial<EncryptionSeen> = {}): EncryptionSeen {
  const whole: KeyMaterial = {
    passphrase: 'now',
    earlier: [],
    pem: 'PEM',
    passphraseSecret: secret({ passphrase: 'x' }),
    keySecret: secret({}),
    generation: 1,
    ...material,
  };
  return {
    keys: { ok: true, material: whole },
    pemProblem: undefined,
    opens: undefined,
    earlier: undefined,
    fingerprint: 'f',
    rewrapDue: false,
    ...more,
  };
}

const opens = { opens: 'passphrase' } as const;
const before = { opens: 'earlier', earlier: 'old' } as const;
const own = { passphraseSecretRef: { name: 'p' } };
const adopt = { uuid: '12345678-9abc-4def-8123-456789abcdef' };

const table: readonly [
  what: string,
  JuiceVolume,
  EncryptionSeen | undefined,
  MetadataObservation,
  verdict: string,
  step: string,
][] = [
  ['the Secrets were not looked at', volume(), undefined, empty, 'Unknown NotChecked', '-'],
  ['the database is away', volume(), seen({}), away, 'Unknown NotChecked', '-'],
  ['nothing is there', volume(), seen({ passphrase: undefined, pem: undefined }), empty, 'False Progressing', 'makePassphrase'],
  ['there is a passphrase', volume(), seen({ pem: undefined }), empty, 'False Progressing', 'makeKey'],
  ['there are both', volume(), seen({}), empty, 'True Succeeded', '-'],
  ['the key is not one', volume(), seen({}, { pemProblem: 'no key' }), empty, 'False KeyInvalid', '-'],
  [
    'the key of the user is missing',
    volume({ ...own, keySecretRef: { name: 'k' } }),
    seen({ pem: undefined }),
    empty,
    'False SecretNotFound',
    '-',
  ],
  [
    'a Secret is somebody else’s',
    volume(),
    { ...seen({}), keys: { ok: false, message: 'x' } },
    empty,
    'False SecretRefused',
    '-',
  ],
  ['the volume was lost', volume({}, { uuid: 'u' }), seen({ passphrase: undefined }), empty, 'Unknown NotChecked', '-'],
  ['one is to be adopted', volume({}, { adopt }), seen({ passphrase: undefined }), empty, 'Unknown NotChecked', '-'],
  ['the volume is not encrypted', volume(), seen({ passphrase: undefined }), holding(''), 'Unknown NotChecked', '-'],
  ['all is well', volume(), seen({}, opens), holding('PEM'), 'True Succeeded', '-'],
  ['the copy of the key is another', volume(), seen({ pem: 'OLD' }, opens), holding('PEM'), 'True Succeeded', 'copyKey'],
  [
    'the key of the user is not the stored text',
    volume({ ...own, keySecretRef: { name: 'k' } }),
    seen({ pem: 'OLD' }, opens),
    holding('PEM'),
    'True Succeeded',
    '-',
  ],
  [
    'a higher generation is wanted',
    volume({ passphraseGeneration: 3 }),
    seen({}, opens),
    holding('PEM'),
    'True Succeeded',
    'renewPassphrase',
  ],
  ['that is there', volume({ passphraseGeneration: 3 }), seen({ generation: 3 }, opens), holding('PEM'), 'True Succeeded', '-'],
  ['clients may not have the new one yet', volume(), seen({}, before), holding('PEM'), 'True Rotating', '-'],
  ['clients have both', volume(), seen({}, { ...before, rewrapDue: true }), holding('PEM'), 'True Rotating', 'rewrap'],
  [
    'the key is under the new one, its copy is not',
    volume(),
    seen({ pem: 'OLD', passphraseSecret: secret({ previous: 'x' }) }, opens),
    holding('PEM'),
    'True Succeeded',
    'copyKey',
  ],
  [
    'the former is still kept',
    volume(),
    seen({ passphraseSecret: secret({ previous: 'x' }) }, opens),
    holding('PEM'),
    'True Succeeded',
    'endRotation',
  ],
  ['nothing opens the key', volume(), seen({}, { opens: 'nothing' }), holding('PEM'), 'False PassphraseWrong', '-'],
  [
    'ours is lost, clients have it',
    volume(),
    seen({ passphrase: undefined }, before),
    holding('PEM'),
    'False Progressing',
    'restorePassphrase',
  ],
  [
    'ours is lost for good',
    volume(),
    seen({ passphrase: undefined }, { opens: 'nothing' }),
    holding('PEM'),
    'False PassphraseWrong',
    '-',
  ],
];

for (const [what, of, encryption, metadata, verdict, step] of table)
  test(`where ${what}, the verdict is ${verdict} and the step ${step}`, () => {
    const decision = decideKeys(of, encryption, metadata);
    assert.deepEqual([`${decision?.verdict.status} ${decision?.verdict.reason}`, decision?.step?.do ?? '-'], [verdict, step]);
  });

test('a volume that is not to be encrypted has no verdict', () => {
  const { encryption: _, ...spec } = volume().spec;
  assert.equal(decideKeys({ ...volume(), spec }, seen({}), empty), undefined);
});
