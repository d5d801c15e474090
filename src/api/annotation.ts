/**
 * The pod annotation `juicepod.io/volumes`: which volumes a pod wants, and where. Two forms:
 *
 *   compact   datasets=/data:ro,shared/checkpoints=/ckpt:sync
 *   list      [{name: datasets, mountPath: /data, readOnly: true, subPath: imagenet, containers: [train]}]   (YAML or JSON)
 *
 * Text in, requests out; nothing of the pod is known here. Invariants: whatever the text, the answer is a list of at
 * least one well-formed request or an `AnnotationError` that quotes the part at fault (shortened) and says what is
 * accepted; the work is bounded by the limits below, which are checked before anything is parsed.
 */
import { Buffer } from 'node:buffer';
import { parseDocument } from 'yaml';
import type { PlanDirectory } from './plan.ts';
import { UserError } from '../lib/errors.ts';
import { directoryOf } from './directory.ts';

/** The longest annotation that is parsed, bytes of UTF-8. (The API server allows 256 KiB for all annotations of an object.) */
export const MAX_ANNOTATION_BYTES = 64 * 1024;
/** The most volumes of one pod. */
const MAX_VOLUMES = 16;
/** The longest mount path or path inside a volume, bytes. */
const MAX_PATH_BYTES = 1024;
/** The most container names in one entry. */
const MAX_CONTAINERS = 64;
/** The most globs of one list. */
export const MAX_GLOBS = 64;
// A list of maps with one list inside is three deep. The YAML parser recurses, and compares each key of a map with all
// others, so depth and number of tokens are limited before it sees the text.
const MAX_DEPTH = 16;
// Of an entry in the compact form: one for the access, one for the mode.
const MAX_OPTIONS = 2;
const MAX_TOKENS = 4096;

const EXAMPLE = 'datasets=/data:ro,checkpoints=/ckpt';
const FORM = `Accepted: name=/path or name=/path:ro, separated by commas (${EXAMPLE}), or a YAML list of {name, mountPath}`;
const FIELDS = [
  'name',
  'mountPath',
  'subPath',
  'readOnly',
  'containers',
  'cachePolicy',
  'mode',
  'include',
  'exclude',
  'owner',
  'permissions',
] as const;
/** How a volume may be asked for. */
const MODES = ['auto', 'fuse', 'sync'] as const;
export type RequestedMode = (typeof MODES)[number];

/** One volume that a pod asks for. */
export interface VolumeRequest {
  /** Namespace of the JuiceVolume; undefined: the pod's own. */
  readonly namespace: string | undefined;
  readonly name: string;
  /** Absolute, normalised path in the containers. */
  readonly mountPath: string;
  /** Directory inside the volume, without leading slash; '' is the volume's root. */
  readonly subPath: string;
  readonly readOnly: boolean;
  /** How the directory `subPath` is made where it is missing. */
  readonly directory?: PlanDirectory;
  /** Names of containers or init containers; undefined: all. */
  readonly containers: readonly string[] | undefined;
  /** Name of a JuiceCachePolicy in the pod's namespace. */
  readonly cachePolicy: string | undefined;
  readonly mode: RequestedMode;
  /** Globs of what is copied in sync mode; undefined: everything. */
  readonly include?: readonly string[];
  /** Globs of what is not, though it is included. */
  readonly exclude?: readonly string[];
}

/** The annotation cannot be understood; the message quotes the part at fault and gives the accepted form. */
export class AnnotationError extends UserError {
  override readonly name = 'AnnotationError';
  constructor(message: string) {
    super('AnnotationInvalid', message, { hint: FORM });
  }
}

/** A text as it is shown in messages: quoted, control characters escaped, at most `length` characters. */
export function quote(text: string, length = 60): string {
  return JSON.stringify(text.length > length ? `${text.slice(0, length - 1)}…` : text);
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a map';
  return typeof value === 'string' ? `the text ${quote(value, 40)}` : `the ${typeof value} ${JSON.stringify(value)}`;
}

const fail = (where: string, what: string): never => {
  throw new AnnotationError(`annotation juicepod.io/volumes, ${where}: ${what}`);
};

const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const DNS_SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

function checkResourceName(name: string, field: string, where: string): void {
  if (name.length > 253 || !DNS_SUBDOMAIN.test(name))
    fail(where, `${field} ${quote(name)} is not a resource name: lower-case letters, digits, "-" and ".", at most 253`);
}

function splitReference(reference: string, where: string): { namespace: string | undefined; name: string } {
  const slash = reference.indexOf('/');
  const namespace = slash < 0 ? undefined : reference.slice(0, slash);
  const name = reference.slice(slash + 1);
  if (namespace !== undefined && !DNS_LABEL.test(namespace))
    fail(where, `the namespace ${quote(namespace)} of volume ${quote(reference)} is not a namespace name; write namespace/name`);
  checkResourceName(name, 'the volume name', where);
  return { namespace, name };
}

/** Paths that the container runtime, the kubelet or Juicepod itself fill; nothing is mounted on or below them. */
const RESERVED_TREES = [
  '/proc',
  '/sys',
  '/dev',
  '/juicepod',
  '/etc/juicepod',
  '/etc/hosts',
  '/etc/hostname',
  '/etc/resolv.conf',
  '/var/run/secrets/kubernetes.io',
  '/run/secrets/kubernetes.io',
];
// A directory above a reserved one would hide it, and its mount point would be made inside the volume.
const RESERVED = new Set(['/', '/etc', '/run', '/var', '/run/secrets', '/var/run', '/var/run/secrets']);

/** True where `inner` is `outer` or lies below it. Both absolute and normalised. */
export function isWithin(inner: string, outer: string): boolean {
  return inner === outer || inner.startsWith(outer === '/' ? '/' : `${outer}/`);
}

// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const CONTROL = /[\u0000-\u001f\u007f]/;

function normalised(path: string): string {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return parts.join('/');
}

function checkPath(path: string, field: string, where: string): void {
  if (Buffer.byteLength(path) > MAX_PATH_BYTES)
    fail(where, `${field} ${quote(path)} is ${Buffer.byteLength(path)} bytes long; at most ${MAX_PATH_BYTES} are accepted`);
  if (CONTROL.test(path)) fail(where, `${field} ${quote(path)} holds a control character`);
  if (!path.isWellFormed()) fail(where, `${field} ${quote(path)} is not valid Unicode`);
  const long = path.split('/').find((part) => Buffer.byteLength(part) > 255);
  if (long !== undefined) fail(where, `${field} has the part ${quote(long)}, which is longer than 255 bytes`);
}

function checkMountPath(path: string, where: string): void {
  const field = 'the mount path';
  if (!path.startsWith('/')) fail(where, `${field} ${quote(path)} is not absolute; it must start with "/"`);
  checkPath(path, field, where);
  if (path.includes(':')) fail(where, `${field} ${quote(path)} holds ":", which Kubernetes does not allow in mount paths`);
  const plain = `/${normalised(path)}`;
  if (plain !== path) fail(where, `${field} ${quote(path)} is not in its plain form; write ${quote(plain)}`);
  const tree = RESERVED_TREES.find((reserved) => isWithin(path, reserved));
  if (tree !== undefined || RESERVED.has(path))
    fail(where, `${field} ${quote(path)} is reserved for the system; choose a directory of its own, for example "/data"`);
}

function checkSubPath(path: string, where: string): void {
  const field = 'subPath';
  checkPath(path, field, where);
  const plain = normalised(path);
  if (path.startsWith('/')) fail(where, `${field} ${quote(path)} must be relative to the volume's root; write ${quote(plain)}`);
  if (path.split('/').includes('..')) fail(where, `${field} ${quote(path)} must not contain ".."`);
  if (plain !== path) fail(where, `${field} ${quote(path)} is not in its plain form; write ${quote(plain)}`);
}

function compactEntry(text: string, where: string): VolumeRequest {
  const equals = text.indexOf('=');
  if (equals < 0) fail(where, `${quote(text)} has no "="; write name=/path or name=/path:ro`);
  const reference = text.slice(0, equals).trim();
  const target = text.slice(equals + 1).trim();
  if (reference === '') fail(where, `${quote(text)} has no volume name before "="; write name=/path`);
  const volume = splitReference(reference, where);
  const [mountPath = '', ...options] = target.split(':', MAX_OPTIONS + 2);
  if (mountPath === '') fail(where, `${quote(text)} has no path after "="; write name=/path`);
  // A path may hold them, but whoever has such a path can write the list; two entries run into one must not become a strange path.
  const stray = /[;=]|\s/.exec(target)?.[0];
  if (stray !== undefined)
    fail(
      where,
      `${quote(target)} holds ${quote(stray)}; entries are separated by commas, and a path that has it needs the YAML list`,
    );
  const given = { access: [] as string[], mode: [] as RequestedMode[] };
  for (const option of options) {
    const mode = MODES.find((one) => one === option);
    if (mode !== undefined) given.mode.push(mode);
    else if (option === 'ro' || option === 'rw') given.access.push(option);
    else
      fail(
        where,
        `${quote(`:${option}`)} after the path ${quote(mountPath)} is unknown; accepted are ":ro", ":rw", ":fuse", ":sync" and ":auto"`,
      );
  }
  for (const said of [given.access, given.mode])
    if (said.length > 1)
      fail(
        where,
        `${said.map((one) => quote(`:${one}`)).join(' and ')} after the path ${quote(mountPath)} exclude each other; write one`,
      );
  checkMountPath(mountPath, where);
  return {
    ...volume,
    mountPath,
    subPath: '',
    readOnly: given.access[0] === 'ro',
    containers: undefined,
    cachePolicy: undefined,
    mode: given.mode[0] ?? 'auto',
  };
}

function parseCompact(text: string): VolumeRequest[] {
  const parts = text.split(',', MAX_VOLUMES + 2).map((part) => part.trim());
  if (parts.length > 1 && parts.at(-1) === '' && parts.length <= MAX_VOLUMES + 1) parts.pop();
  checkCount(parts.length);
  return parts.map((part, index) => {
    const where = `entry ${index + 1}${part === '' ? '' : ` (${quote(part)})`}`;
    if (part === '') fail(where, 'it is empty; remove the comma or write name=/path');
    return compactEntry(part, where);
  });
}

function checkCount(count: number): void {
  if (count > MAX_VOLUMES)
    throw new AnnotationError(
      `annotation juicepod.io/volumes asks for more than ${MAX_VOLUMES} volumes; mount a parent directory, or use several pods`,
    );
}

function containersOf(value: unknown, where: string): readonly string[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value))
    return fail(where, `containers must be a list of container names such as [main]; found ${kindOf(value)}`);
  if (value.length === 0)
    fail(where, 'containers is an empty list, so no container would see the volume; name one, or leave it out');
  if (value.length > MAX_CONTAINERS) fail(where, `containers has ${value.length} names; at most ${MAX_CONTAINERS} are accepted`);
  const names = value.map((name: unknown) => {
    if (typeof name !== 'string' || !DNS_LABEL.test(name))
      return fail(where, `containers must hold container names; found ${typeof name === 'string' ? quote(name) : kindOf(name)}`);
    return name;
  });
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) fail(where, `containers names ${quote(twice)} twice`);
  return names;
}

function globsOf(value: unknown, field: string, where: string): readonly string[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || value.length === 0 || value.length > MAX_GLOBS)
    return fail(where, `${field} must be a list of 1 to ${MAX_GLOBS} globs such as ["train/**/*.png"]; found ${kindOf(value)}`);
  return value.map((glob: unknown) => {
    if (typeof glob !== 'string' || glob === '') return fail(where, `${field} must hold globs; found ${kindOf(glob)}`);
    checkPath(glob, field, where);
    if (glob.startsWith('/')) fail(where, `${field} ${quote(glob)} must be relative to what is mounted; leave out the first "/"`);
    return glob;
  });
}

function listEntry(value: unknown, where: string): VolumeRequest {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return fail(where, `a map with name and mountPath is wanted; found ${kindOf(value)}`);
  const entry = value as Readonly<Record<string, unknown>>;
  const unknown = Object.keys(entry).find((key) => !(FIELDS as readonly string[]).includes(key));
  if (unknown !== undefined) fail(where, `field ${quote(unknown)} is unknown; accepted are ${FIELDS.join(', ')}`);
  const text = (field: string): string | undefined => {
    const found = entry[field];
    if (found === undefined) return undefined;
    if (typeof found !== 'string') return fail(where, `${field} must be a string; found ${kindOf(found)}`);
    return found;
  };
  const reference = text('name') ?? fail(where, 'it has no name; write {name: volume, mountPath: /path}');
  const at = `${where} (${quote(reference)})`;
  const mountPath = text('mountPath') ?? fail(at, 'it has no mountPath; write {name: volume, mountPath: /path}');
  const volume = splitReference(reference, at);
  checkMountPath(mountPath, at);
  const subPath = text('subPath') ?? '';
  checkSubPath(subPath, at);
  const readOnly = entry['readOnly'] ?? false;
  if (typeof readOnly !== 'boolean') return fail(at, `readOnly must be true or false; found ${kindOf(readOnly)}`);
  const cachePolicy = text('cachePolicy');
  if (cachePolicy !== undefined) checkResourceName(cachePolicy, 'cachePolicy', at);
  const made = { owner: text('owner'), permissions: text('permissions'), subPath, readOnly };
  const directory = directoryOf(made, (what) => fail(at, what));
  const mode = text('mode') ?? 'auto';
  const known = MODES.find((one) => one === mode);
  if (known === undefined) return fail(at, `mode ${quote(mode)} is unknown; accepted are ${MODES.join(', ')}`);
  const include = globsOf(entry['include'], 'include', at);
  const exclude = globsOf(entry['exclude'], 'exclude', at);
  return {
    ...volume,
    mountPath,
    subPath,
    readOnly,
    ...(directory ? { directory } : {}),
    containers: containersOf(entry['containers'], at),
    cachePolicy,
    mode: known,
    ...(include ? { include } : {}),
    ...(exclude ? { exclude } : {}),
  };
}

function checkEffort(text: string): void {
  let depth = 0;
  let tokens = 0;
  for (const character of text) {
    if (character === '[' || character === '{') depth++;
    else if (character === ']' || character === '}') depth--;
    if (',:-!?\n'.includes(character)) tokens++;
    // Nesting by "- - - -" or by one more blank per line is told by the expressions.
    if (depth > MAX_DEPTH) break;
  }
  if (depth > MAX_DEPTH || /^[ \t]*(- ){4}/m.test(text) || /^[ \t]{64}/m.test(text))
    fail(`value ${quote(text)}`, 'it is nested too deeply; a list of maps is wanted');
  if (tokens > MAX_TOKENS) fail(`value ${quote(text)}`, `it has too many parts; a list of at most ${MAX_VOLUMES} maps is wanted`);
}

function parseList(text: string): VolumeRequest[] {
  checkEffort(text);
  let value: unknown;
  try {
    const document = parseDocument(text, { schema: 'core', stringKeys: true, prettyErrors: false, logLevel: 'silent' });
    const error = document.errors[0];
    if (error) throw error;
    value = document.toJS({ maxAliasCount: 0 });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const position = error instanceof Error && 'pos' in error && Array.isArray(error.pos) ? Number(error.pos[0]) : 0;
    const near = text.slice(Math.max(0, position - 20), position + 20).trim();
    return fail(`near ${quote(near)}`, `it is not valid YAML or JSON: ${message.slice(0, 160)}`);
  }
  if (!Array.isArray(value)) return fail(`value ${quote(text)}`, `a list is wanted; found ${kindOf(value)}`);
  checkCount(value.length);
  return value.map((entry: unknown, index) => listEntry(entry, `entry ${index + 1}`));
}

function overlap(a: VolumeRequest, b: VolumeRequest): boolean {
  if (!isWithin(a.mountPath, b.mountPath) && !isWithin(b.mountPath, a.mountPath)) return false;
  return a.containers === undefined || b.containers === undefined || a.containers.some((name) => b.containers?.includes(name));
}

/** The volume as people write it: `name` or `namespace/name`. */
export function referenceOf(request: Pick<VolumeRequest, 'namespace' | 'name'>): string {
  return request.namespace === undefined ? request.name : `${request.namespace}/${request.name}`;
}

/** Reads the annotation's text. Throws AnnotationError. */
export function parseVolumes(text: string): readonly VolumeRequest[] {
  // A UTF-16 unit is at least one byte, so the cheap test comes first.
  const bytes = text.length > MAX_ANNOTATION_BYTES ? text.length : Buffer.byteLength(text);
  if (bytes > MAX_ANNOTATION_BYTES)
    fail(`value ${quote(text)}`, `it is longer than ${MAX_ANNOTATION_BYTES / 1024} KiB (${bytes} bytes)`);
  const trimmed = text.trim();
  if (trimmed === '') throw new AnnotationError('annotation juicepod.io/volumes is empty');
  const isList = /^(\[|\{|- |-\n|#|---)/.test(trimmed);
  const requests = isList ? parseList(trimmed) : parseCompact(trimmed);
  if (requests.length === 0) throw new AnnotationError('annotation juicepod.io/volumes is an empty list');
  for (const [index, request] of requests.entries()) {
    const other = requests.slice(0, index).find((before) => overlap(before, request));
    if (other === undefined) continue;
    const [a, b] = [quote(referenceOf(other)), quote(referenceOf(request))];
    fail(
      `entry ${index + 1} (${b})`,
      other.mountPath === request.mountPath
        ? `${quote(request.mountPath)} is already the path of entry ${requests.indexOf(other) + 1} (${a}); give each a path of its own`
        : `${quote(request.mountPath)} and ${quote(other.mountPath)} of entry ${requests.indexOf(other) + 1} (${a}) lie inside each other; choose separate paths`,
    );
  }
  const policies = new Set(requests.map((request) => request.cachePolicy).filter((name) => name !== undefined));
  if (policies.size > 1)
    fail(
      'cachePolicy',
      `${[...policies].map((name) => quote(name)).join(' and ')} are both named; one client serves all volumes of a pod, so name one`,
    );
  return requests;
}
