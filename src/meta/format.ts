/**
 * The format of a volume: what `juicefs format` writes once and every client reads at its start (the text under
 * `setting`). Here are its type, its JSON to and fro, and what may become of it; the rules of what a person gives are in
 * format-input.ts, the encryption of its secrets in format-secrets.ts.
 *
 * Invariants: a member this version does not know is kept and written back; the text is byte for byte what JuiceFS writes
 * for the same values (Go's encoding/json with an empty indent: one member a line, HTML characters escaped).
 *
 * Source: the JuiceFS format, §1 (pkg/meta/config.go of 1.4.1).
 */
import { UserError } from '../lib/errors.ts';
import { redactUrl } from './url.ts';

/** A storage class that files may be put in; tier 0 is the default of the volume. */
export interface Tier {
  readonly id: number;
  readonly storageClass: string;
  readonly tag: string;
}

export interface Format {
  /** Name of the volume, and the prefix of its objects (`<name>/`). */
  readonly name: string;
  readonly uuid: string;
  /** Driver of the object storage: `file`, `s3`, … */
  readonly storage: string;
  readonly storageClass: string;
  /** Undefined in volumes made before 1.4. */
  readonly tiers: readonly Tier[] | undefined;
  /** Address of the bucket; for `file` an absolute path that ends with `/`. */
  readonly bucket: string;
  readonly accessKey: string;
  readonly secretKey: string;
  readonly sessionToken: string;
  /** KiB, a power of two in 64 … 16384. */
  readonly blockSize: number;
  /** `''` and `none` mean the same; else `lz4`, `zstd`. */
  readonly compression: string;
  /** Number of buckets, 0 = one bucket without a number. */
  readonly shards: number;
  readonly hashPrefix: boolean;
  /** Bytes, 0 = unlimited. */
  readonly capacity: number;
  /** 0 = unlimited. */
  readonly inodes: number;
  /** PEM of the RSA key that wraps the data keys, `''` where objects are not encrypted. */
  readonly encryptKey: string;
  readonly encryptAlgo: string;
  /** Whether secretKey, sessionToken and encryptKey are in their encrypted form here. */
  readonly keyEncrypted: boolean;
  /** Mbit/s over all of one client, 0 = unlimited. */
  readonly uploadLimit: number;
  readonly downloadLimit: number;
  /** Days that removed files are kept, 0 = none. */
  readonly trashDays: number;
  readonly metaVersion: number;
  readonly minClientVersion: string;
  readonly maxClientVersion: string;
  readonly dirStats: boolean;
  readonly userGroupQuota: boolean;
  readonly enableAcl: boolean;
  readonly rangerRestUrl: string;
  readonly rangerService: string;
  /** Whether every operation must be written to the change log. */
  readonly changeLog: boolean;
  /** Seconds. */
  readonly changeLogMaxAge: number;
  readonly changeLogMaxLines: number;
  readonly kerbConf: string;
  /** Members that this version does not know, in the order they were found. */
  readonly unknown: readonly (readonly [name: string, value: unknown])[];
}

/** The version of JuiceFS that we behave as, for the limits on clients that a format may carry. */
export const CLIENT_VERSION = '1.4.1';
/** The newest layout of metadata that we read. */
export const MAX_META_VERSION = 1;

type Member = Exclude<keyof Format, 'unknown'>;
type Kind = 'string' | 'integer' | 'boolean' | 'tiers';
interface MemberRule {
  readonly json: string;
  readonly member: Member;
  readonly kind: Kind;
  /** Written even where it is zero. */
  readonly always: boolean;
}

const rule = (json: string, member: Member, kind: Kind, always = false): MemberRule => ({ json, member, kind, always });

/** In the order in which JuiceFS writes them. */
const rules: readonly MemberRule[] = [
  rule('Name', 'name', 'string', true),
  rule('UUID', 'uuid', 'string', true),
  rule('Storage', 'storage', 'string', true),
  rule('StorageClass', 'storageClass', 'string'),
  rule('Tiers', 'tiers', 'tiers', true),
  rule('Bucket', 'bucket', 'string', true),
  rule('AccessKey', 'accessKey', 'string'),
  rule('SecretKey', 'secretKey', 'string'),
  rule('SessionToken', 'sessionToken', 'string'),
  rule('BlockSize', 'blockSize', 'integer', true),
  rule('Compression', 'compression', 'string'),
  rule('Shards', 'shards', 'integer'),
  rule('HashPrefix', 'hashPrefix', 'boolean'),
  rule('Capacity', 'capacity', 'integer'),
  rule('Inodes', 'inodes', 'integer'),
  rule('EncryptKey', 'encryptKey', 'string'),
  rule('EncryptAlgo', 'encryptAlgo', 'string'),
  rule('KeyEncrypted', 'keyEncrypted', 'boolean'),
  rule('UploadLimit', 'uploadLimit', 'integer'),
  rule('DownloadLimit', 'downloadLimit', 'integer'),
  rule('TrashDays', 'trashDays', 'integer', true),
  rule('MetaVersion', 'metaVersion', 'integer'),
  rule('MinClientVersion', 'minClientVersion', 'string'),
  rule('MaxClientVersion', 'maxClientVersion', 'string'),
  rule('DirStats', 'dirStats', 'boolean'),
  rule('UserGroupQuota', 'userGroupQuota', 'boolean'),
  rule('EnableACL', 'enableAcl', 'boolean', true),
  rule('RangerRestUrl', 'rangerRestUrl', 'string'),
  rule('RangerService', 'rangerService', 'string'),
  rule('ChangeLog', 'changeLog', 'boolean'),
  rule('ChangeLogMaxAge', 'changeLogMaxAge', 'integer'),
  rule('ChangeLogMaxLines', 'changeLogMaxLines', 'integer'),
  rule('KerbConf', 'kerbConf', 'string'),
];
const ruleOf = new Map(rules.map((each) => [each.json, each]));

/** The name of a member in the text of the format, which is also how people know it. */
export function jsonName(member: Member): string {
  return rules.find((each) => each.member === member)?.json ?? member;
}

function damaged(what: string, cause?: unknown): UserError {
  return new UserError('FormatDamaged', `The format of the volume in the metadata database cannot be read: ${what}`, {
    cause,
    hint: 'The database may hold something else than a JuiceFS volume. Check the metadata URL, or restore a dump.',
  });
}

function describe(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

function readInteger(name: string, value: unknown): number {
  if (!Number.isSafeInteger(value)) {
    const found = typeof value === 'number' ? String(value) : describe(value);
    throw damaged(`${name} should be a whole number of magnitude below 2^53, it is ${found}.`);
  }
  return value as number;
}

function readTiers(value: unknown): readonly Tier[] | undefined {
  if (value === null || value === undefined) return undefined;
  if (typeof value !== 'object' || Array.isArray(value)) throw damaged(`Tiers should be an object, it is ${describe(value)}.`);
  return Object.entries(value as Readonly<Record<string, unknown>>).map(([key, tier]) => {
    if (!/^\d{1,3}$/.test(key) || typeof tier !== 'object' || tier === null)
      throw damaged(`Tiers has an unreadable member "${key}".`);
    const { StorageClass: storageClass = '', Tag: tag = '' } = tier as Readonly<Record<string, unknown>>;
    if (typeof storageClass !== 'string' || typeof tag !== 'string') throw damaged(`Tiers has an unreadable member "${key}".`);
    return { id: Number(key), storageClass, tag };
  });
}

function readMember({ json, kind }: MemberRule, value: unknown): Format[Member] {
  if (kind === 'tiers') return readTiers(value);
  if (kind === 'integer') return value === undefined || value === null ? 0 : readInteger(json, value);
  const zero = kind === 'string' ? '' : false;
  if (value === undefined || value === null) return zero;
  if (typeof value !== kind) throw damaged(`${json} should be a ${kind}, it is ${describe(value)}.`);
  return value as string | boolean;
}

/**
 * Reads the text of `setting`. Secrets stay as they are stored.
 * Throws UserError FormatDamaged where the text is no format; versions are not checked here (see `checkVersion`).
 */
export function parseFormat(text: string): Format {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch (cause) {
    // The parser's own message quotes the text, which holds secrets.
    throw damaged(`it is not JSON (${text.length} characters).`, cause instanceof SyntaxError ? undefined : cause);
  }
  if (typeof found !== 'object' || found === null || Array.isArray(found))
    throw damaged(`it should be a JSON object, it is ${describe(found)}.`);
  const members = new Map(Object.entries(found));
  const format = Object.fromEntries(rules.map((each) => [each.member, readMember(each, members.get(each.json))]));
  const unknown = [...members].filter(([name]) => !ruleOf.has(name));
  const result = { ...format, unknown } as unknown as Format;
  if (result.name === '' || result.uuid === '') throw damaged(`${result.name === '' ? 'Name' : 'UUID'} is missing.`);
  if (result.blockSize < 1 || result.blockSize > 64 * 1024)
    throw damaged(`BlockSize should be 64 … 16384 KiB, it is ${result.blockSize}.`);
  return result;
}

/** A string as Go's encoding/json writes it. */
function goString(value: string): string {
  return JSON.stringify(value.toWellFormed()).replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function goValue(value: unknown): string {
  if (typeof value === 'string') return goString(value);
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const list = Array.isArray(value);
  const items = list
    ? value.map(goValue)
    : Object.entries(value).map(([name, member]) => `${goString(name)}: ${goValue(member)}`);
  const [open, close] = list ? ['[', ']'] : ['{', '}'];
  return items.length === 0 ? open + close : `${open}\n${items.join(',\n')}\n${close}`;
}

/** A Go map has its keys in the order of their text. */
function tiersValue(tiers: readonly Tier[] | undefined): string {
  if (!tiers) return 'null';
  const items = tiers
    .map((tier) => ({ key: String(tier.id), tier }))
    .toSorted((a, b) => (a.key < b.key ? -1 : 1))
    .map(({ key, tier }) => `"${key}": ${goValue({ ID: tier.id, StorageClass: tier.storageClass, Tag: tier.tag })}`);
  return items.length === 0 ? '{}' : `{\n${items.join(',\n')}\n}`;
}

/** The text of `setting`, as JuiceFS writes it. Secrets are written as they are: encrypt them first (format-secrets.ts). */
export function serialiseFormat(format: Format): string {
  const known = rules
    .filter(({ member, always }) => always || Boolean(format[member]))
    .map(({ json, member, kind }) => `"${json}": ${kind === 'tiers' ? tiersValue(format.tiers) : goValue(format[member])}`);
  const unknown = format.unknown.map(([name, value]) => `${goString(name)}: ${goValue(value)}`);
  return `{\n${[...known, ...unknown].join(',\n')}\n}`;
}

/** What stands in the place of a secret that was taken out, in our printing as in JuiceFS's. */
export const REMOVED = 'removed';

/** The format as it may be printed: the secrets taken out, also a password inside the bucket's address. */
export function redacted(format: Format): Format {
  const hide = (secret: string): string => (secret === '' ? '' : REMOVED);
  return {
    ...format,
    bucket: redactUrl(format.bucket),
    secretKey: hide(format.secretKey),
    sessionToken: hide(format.sessionToken),
    encryptKey: hide(format.encryptKey),
  };
}

interface Version {
  readonly numbers: readonly [number, number, number];
  readonly preRelease: string;
}

function parseVersion(text: string): Version | undefined {
  const match = /^(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([^+]*))?(?:\+.*)?$/.exec(text);
  if (!match) return undefined;
  const [, major = '0', minor = '0', patch = '0', preRelease = ''] = match;
  return { numbers: [Number(major), Number(minor), Number(patch)], preRelease };
}

/** As semver, but pre-releases compare as plain text (`A` before `alpha`), as JuiceFS has it. Negative: `a` is older. */
function compareVersions(a: Version, b: Version): number {
  for (const [index, number] of a.numbers.entries()) {
    const difference = number - (b.numbers[index] ?? 0);
    if (difference !== 0) return difference;
  }
  if (a.preRelease === b.preRelease) return 0;
  if (a.preRelease === '') return 1;
  if (b.preRelease === '') return -1;
  return a.preRelease < b.preRelease ? -1 : 1;
}

/** The storage class that blocks are written with; empty for the bucket's own. Volumes made before 1.4 have no tiers. */
export function storageClassOf({ tiers, storageClass }: Format): string {
  return tiers?.find(({ id }) => id === 0)?.storageClass || storageClass;
}

/** Throws UserError where this client must not use the volume: it is too old or too new for it, or cannot tell. */
export function checkVersion(format: Format, client: string = CLIENT_VERSION): void {
  if (format.metaVersion > MAX_META_VERSION)
    throw new UserError(
      'MetaVersionTooNew',
      `The metadata of volume "${format.name}" has layout version ${format.metaVersion}; this client reads version ${MAX_META_VERSION}.`,
      { hint: 'Upgrade this client.' },
    );
  const own = parseVersion(client);
  const limit = (member: 'minClientVersion' | 'maxClientVersion', sign: 1 | -1, sentence: string, hint: string): void => {
    const text = format[member];
    if (text === '') return;
    const bound = parseVersion(text);
    if (!own || !bound)
      throw new UserError(
        'ClientVersionUnknown',
        `The volume "${format.name}" names "${text}" as ${jsonName(member)}, and that cannot be compared with ${client}.`,
        { hint: 'Correct it with `juicefs config`.' },
      );
    if (compareVersions(own, bound) * sign < 0)
      throw new UserError(
        'ClientVersionRefused',
        `The volume "${format.name}" allows clients ${sentence} ${text}; this one behaves as ${client}.`,
        { hint },
      );
  };
  limit('minClientVersion', 1, 'from version', 'Upgrade this client.');
  limit('maxClientVersion', -1, 'up to version', 'Use an older client, or raise the limit with `juicefs config`.');
}
