/** A Secret of JuiceFS's CSI driver as JuiceVolume and Secrets: one file system. Pure. */
import { parse } from 'yaml';
import { type Json, mapOf, textOf } from '../../lib/json.ts';
import { API_VERSION } from '../../api/group.ts';
import { volumeSpec, VOLUME_NAME_PATTERN } from '../../api/volume.ts';
import { PROVIDERS } from '../../api/volume-storage.ts';
import { messageOf } from '../../lib/errors.ts';
import { parseSize } from '../../lib/units.ts';
import { describeAddress } from '../../meta/url-redis.ts';
import { parseMetaUrl, redactUrl } from '../../meta/url.ts';
import { limitOf } from './limits.ts';
import { sqlMetadataOf } from './metadata-sql.ts';
import { textsOf } from './sources.ts';
import { storageOf } from './storage.ts';

/** Stands where a person has to put something; no name, address or key may look like it, so it is refused until then. */
const FILL_IN = 'FILL-IN';

export interface FileSystem {
  /** Name of the JuiceFS volume, and of the JuiceVolume. */
  readonly name: string;
  /** spec of the JuiceVolume, without access and cache policy. */
  readonly spec: Json;
  /** Secrets to make, by name: keys and values. */
  readonly secrets: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** What a person has to do. */
  readonly todos: readonly string[];
  /** Why it cannot be brought over; then the rest is of no use. */
  readonly obstacle: string | undefined;
}

const compressions: Readonly<Record<string, string>> = { none: 'None', lz4: 'LZ4', zstd: 'Zstd' };
const ENGINES = /^(tikv|etcd|badger|fdb|sqlite3|unix):/;
/** Kinds of store with keys of their own; of the others they are S3's. */
const OWN_KINDS: ReadonlySet<string> = new Set([...PROVIDERS, 'gs', 'wasb', 'webdav']);
const SERVERS = /^(mysql|postgres):/;

function metadataOf(
  url: string,
  secret: string,
): {
  readonly metadata?: Json;
  readonly keys: Readonly<Record<string, string>>;
  readonly todos: string[];
  readonly obstacle?: string;
} {
  const shown = redactUrl(url);
  const engine = ENGINES.exec(url)?.[1];
  if (engine)
    return {
      keys: {},
      todos: [],
      obstacle: `its names are in ${engine} (${shown}), which pods do not reach, or which Juicepod does not speak; juicefs dump and load can move them to Redis, PostgreSQL or MySQL`,
    };
  if (SERVERS.test(url)) {
    try {
      const parsed = parseMetaUrl(url);
      if (parsed.kind === 'postgres' || parsed.kind === 'mysql') return sqlMetadataOf(parsed, secret, FILL_IN, shown);
    } catch (error) {
      return { keys: {}, todos: [], obstacle: messageOf(error) };
    }
  }
  try {
    const parsed = parseMetaUrl(url);
    if (parsed.kind !== 'redis') return { keys: {}, todos: [], obstacle: `its names are not in Redis (${shown})` };
    const todos: string[] = [];
    const { tls } = parsed;
    if (tls?.insecureSkipVerify)
      todos.push(
        'the metadata URL skips the check of certificates; here the authority is named: spec.metadata.redis.tls.caSecretRef',
      );
    else if (tls?.caFile)
      todos.push(
        `put the authority's certificate (${tls.caFile}) into a Secret and name it in spec.metadata.redis.tls.caSecretRef`,
      );
    if (tls?.certFile) todos.push('client certificates for Redis are not supported; use a password');
    const keys = {
      ...(parsed.username ? { username: parsed.username } : {}),
      ...(parsed.password ? { password: parsed.password } : {}),
    };
    const { sentinel } = parsed;
    if (sentinel?.password)
      todos.push('put the password of the Sentinels into a Secret and name it in spec.metadata.redis.sentinel.authSecretRef');
    return {
      keys,
      todos,
      metadata: {
        redis: {
          addresses: (sentinel?.nodes ?? parsed.cluster ?? [parsed]).map(describeAddress),
          ...(sentinel ? { sentinel: { masterName: sentinel.master } } : {}),
          database: parsed.database,
          ...(Object.keys(keys).length > 0 ? { authSecretRef: { name: secret } } : {}),
          ...(tls ? { tls: { enabled: true, ...(tls.serverName ? { serverName: tls.serverName } : {}) } } : {}),
        },
      },
    };
  } catch (error) {
    return { keys: {}, todos: [], obstacle: messageOf(error) };
  }
}

const algorithms: Readonly<Record<string, string>> = { 'aes256gcm-rsa': 'AES256GCM', 'chacha20-rsa': 'ChaCha20Poly1305' };

/** `block-size=4096,trash-days=3,…`: what of it a JuiceVolume has. The driver formats with it at each mount, so it is how the volume is. */
function formatOf(text: string): {
  readonly format: Json;
  readonly quota: Json;
  /** Of encryption, where it is named. */
  readonly algorithm: string | undefined;
  readonly todos: string[];
} {
  const format: Record<string, string | boolean> = {};
  const quota: Record<string, string | number> = {};
  let algorithm: string | undefined;
  const todos: string[] = [];
  for (const part of text
    .split(',')
    .map((each) => each.trim().replace(/^--/, ''))
    .filter(Boolean)) {
    const [option = '', value = ''] = part.split('=', 2).map((each) => each.trim());
    if (option === 'block-size' && /^\d+$/.test(value.replace(/[kK]$/, '')))
      format['blockSize'] = `${Number(value.replace(/[kK]$/, ''))}Ki`;
    else if (option === 'block-size' && /^\d+M$/i.test(value)) format['blockSize'] = `${Number.parseInt(value)}Mi`;
    else if (option === 'compress' && compressions[value]) format['compression'] = compressions[value];
    else if (option === 'trash-days' && /^\d+$/.test(value)) format['trashRetention'] = `${Number(value) * 24}h`;
    else if (option === 'enable-acl' && ['', 'true'].includes(value)) format['enableACL'] = true;
    else if (option === 'capacity' && capacityText(value) !== undefined) quota['capacity'] = capacityText(value) ?? '';
    else if (option === 'inodes' && /^[1-9]\d*$/.test(value)) quota['inodes'] = Number(value);
    else if (['capacity', 'inodes'].includes(option) && Number(value) === 0) continue;
    else if (option === 'encrypt-algo' && algorithms[value]) algorithm = algorithms[value];
    else if (option === 'encrypt-rsa-key') algorithm ??= 'AES256GCM';
    else if (['force', 'no-update', 'access-key', 'secret-key', 'storage', 'bucket'].includes(option)) continue;
    else
      todos.push(
        `format option ${part}: it is a property of the volume and stays as it is; see that it is one that docs/interoperability.md names`,
      );
  }
  return { format, quota, algorithm, todos };
}

/** GiB, or a size with a unit, as a limit spells it; undefined for what it cannot say. */
function capacityText(value: string): string | undefined {
  try {
    return limitOf(parseSize(value, 'capacity', 'G'));
  } catch {
    return undefined;
  }
}

/** The passphrase among the environment that the driver gives to its mount pods: a map, in JSON or YAML. */
function passphraseOf(envs: string | undefined): { readonly passphrase: string | undefined; readonly others: readonly string[] } {
  let read: Json = {};
  try {
    read = mapOf(parse(envs ?? '', { maxAliasCount: 0 }));
  } catch {
    return { passphrase: undefined, others: ['(which cannot be read)'] };
  }
  const { JFS_RSA_PASSPHRASE: passphrase, ...others } = read;
  return { passphrase: textOf(passphrase), others: Object.keys(others) };
}

/** Reads a Secret of the driver. `at` is its `namespace/name`. */
export function fileSystemOf(secret: Json, at: string): FileSystem {
  const texts = textsOf(secret);
  const name = texts['name'] ?? '';
  const nothing = { name: name || at.replace('/', '-'), spec: {}, secrets: {} };
  if (texts['token'] !== undefined && texts['metaurl'] === undefined)
    return {
      ...nothing,
      todos: [],
      obstacle: `Secret ${at} is of JuiceFS Enterprise or Cloud Service (it has a token); only volumes of the Community Edition can be brought over`,
    };
  if (!new RegExp(VOLUME_NAME_PATTERN).test(name))
    return { ...nothing, todos: [], obstacle: `Secret ${at} has no usable \`name\` (found ${JSON.stringify(name)})` };
  if (!texts['metaurl']) return { ...nothing, todos: [], obstacle: `Secret ${at} has no \`metaurl\`` };
  const credentials = `${name}-${SERVERS.exec(texts['metaurl'])?.[1] ?? 'redis'}`;
  const metadata = metadataOf(texts['metaurl'], credentials);
  const storageSuffix = OWN_KINDS.has(texts['storage'] ?? '') && texts['bucket'] ? texts['storage'] : 's3';
  const storage = storageOf(texts, `${name}-${storageSuffix}`, FILL_IN);
  const format = formatOf(texts['format-options'] ?? '');
  const todos = [...metadata.todos, ...storage.todos, ...format.todos];
  const { passphrase, others } = passphraseOf(texts['envs']);
  const isEncrypted = Boolean(texts['encrypt_rsa_key']) || format.algorithm !== undefined;
  const words = `${name}-passphrase`;
  if (isEncrypted && passphrase === undefined)
    todos.push(
      `the volume is encrypted, and its passphrase is not among what was read: put it into Secret ${words}, under the key passphrase. A key without one gets one with juicepod rotate-passphrase`,
    );
  if (others.length > 0)
    todos.push(
      `\`envs\` of Secret ${at} sets ${others.join(', ')} for the mount pods; there is no counterpart: see whether it is needed`,
    );
  if (texts['configs'])
    todos.push(`\`configs\` of Secret ${at} mounts files into the mount pods; there is no counterpart: see whether it is needed`);
  const spec = {
    metadata: metadata.metadata ?? {},
    storage: storage.storage ?? {},
    ...(Object.keys(format.format).length > 0 ? { format: format.format } : {}),
    ...(isEncrypted ? { encryption: { algorithm: format.algorithm ?? 'AES256GCM', passphraseSecretRef: { name: words } } } : {}),
    ...(Object.keys(format.quota).length > 0 ? { quota: format.quota } : {}),
    reclaimPolicy: 'Retain',
  };
  const obstacle = metadata.obstacle ?? storage.obstacle;
  const checked = obstacle === undefined ? volumeSpec.safeParse(spec) : undefined;
  if (checked && !checked.success)
    for (const { path, message } of checked.error.issues)
      if (!JSON.stringify(spec).includes(FILL_IN)) todos.push(`spec.${path.join('.')}: ${message}`);
  return {
    name,
    spec,
    secrets: {
      ...(Object.keys(metadata.keys).length > 0 ? { [credentials]: metadata.keys } : {}),
      ...(Object.keys(storage.keys).length > 0 ? { [`${name}-${storageSuffix}`]: storage.keys } : {}),
      ...(isEncrypted ? { [words]: { passphrase: passphrase ?? FILL_IN } } : {}),
    },
    todos,
    obstacle,
  };
}

/** A Secret's manifest. Without `values` each is left to be filled in. */
export function secretManifest(namespace: string, name: string, texts: Readonly<Record<string, string>>, values: boolean): Json {
  const stringData = Object.fromEntries(Object.entries(texts).map(([key, value]) => [key, values ? value : FILL_IN]));
  return { apiVersion: 'v1', kind: 'Secret', metadata: { name, namespace }, type: 'Opaque', stringData };
}

export const volumeManifest = (namespace: string, name: string, spec: Json): Json => ({
  apiVersion: API_VERSION,
  kind: 'JuiceVolume',
  metadata: { name, namespace },
  spec,
});
