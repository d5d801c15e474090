/**
 * `juicepod inject -f pod.yaml`: the webhook's decision, on files, without a cluster.
 *
 * Pods and pod templates of workloads are injected with the very functions the webhook uses. JuiceVolumes,
 * JuiceCachePolicies and Namespaces in the same text are inputs; such volumes count as ready. Comments and the order of
 * fields survive. YAML is read as Kubernetes reads it (1.1: `0644` is octal).
 */
import { applyPatch } from 'rfc6902';
import { Document, isAlias, isMap, isScalar, isSeq, parseAllDocuments, visit } from 'yaml';
import type { JuiceCachePolicy } from '../api/cachepolicy.ts';
import { API_VERSION } from '../api/group.ts';
import { parseJuiceCachePolicy, parseJuiceVolume } from '../api/kinds.ts';
import type { Plan } from '../api/plan.ts';
import type { JuiceVolume } from '../api/volume.ts';
import { UserError } from '../lib/errors.ts';
import { unifiedDiff } from './diff.ts';
import { limitRangeOf } from './limits.ts';
import { type Operation, patchPod } from './patch.ts';
import { type Explanation, planPod } from './plan.ts';
import { type Json, listOf, mapOf, textOf } from '../lib/json.ts';
import { podTemplates } from './templates.ts';
import { type Cluster, defaultSettings, type Settings } from './settings.ts';

/** The longest text that is read, characters. */
export const MAX_FILE = 16 * 1024 * 1024;

export interface InjectOptions {
  /** Further volumes, e.g. read from a cluster; used as they are. */
  readonly volumes?: readonly JuiceVolume[];
  readonly policies?: readonly JuiceCachePolicy[];
  /** Labels of namespaces that the text does not define. */
  readonly namespaces?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Of what names none. @default 'default' */
  readonly namespace?: string;
  /** @default the webhook's, but volumes in files of this machine are accepted */
  readonly settings?: Partial<Settings>;
  /** Names the text in messages and the diff. @default 'stdin' */
  readonly fileName?: string;
}

/** What was decided about one pod or pod template. */
export interface InjectReason {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly action: 'ignore' | 'refuse' | 'inject';
  /** CamelCase; for `inject` whether anything was missing. */
  readonly reason: string;
  readonly message: string;
  readonly warnings: readonly string[];
  /** Of an injected pod: on which platform it runs, by what that was told, how it gets each volume and why. */
  readonly explanation?: Explanation;
  /** Of an injected pod: what its client is to do. */
  readonly plan?: Plan;
}

export interface InjectResult {
  /** The documents of the text, in order, injected where that was decided; plain objects. */
  readonly documents: readonly Json[];
  /** The same as text; the very text that came in where nothing changed. */
  readonly text: string;
  /** Unified diff of what was added; '' where nothing was. */
  readonly diff: string;
  readonly reasons: readonly InjectReason[];
}

interface Target {
  readonly object: Json;
  /** JSON pointer of the pod in the document. */
  readonly root: string;
  readonly pod: unknown;
}

/** The resources of a document, a List opened. */
function resourcesOf(value: unknown, root = ''): readonly { readonly object: Json; readonly root: string }[] {
  const object = mapOf(value);
  if (object['kind'] !== 'List') return [{ object, root }];
  return listOf(object['items']).flatMap((item, index) => resourcesOf(item, `${root}/items/${index}`));
}

function targetOf({ object, root }: { readonly object: Json; readonly root: string }): Target | undefined {
  const path = podTemplates[textOf(object['kind']) ?? ''];
  if (path === undefined) return undefined;
  const pod = path.reduce<unknown>((at, key) => mapOf(at)[key], object);
  return { object, root: [root, ...path].join('/'), pod };
}

/** What is read with the text: volumes that count as ready, policies, namespaces. */
function clusterOf(resources: readonly Json[], options: InjectOptions): Cluster {
  const home = options.namespace ?? 'default';
  const placed = <T extends { readonly metadata: JuiceVolume['metadata'] }>(object: T): T => ({
    ...object,
    metadata: { ...object.metadata, namespace: object.metadata.namespace ?? home },
  });
  const of = (kind: string): readonly Json[] =>
    resources.filter((object) => object['apiVersion'] === API_VERSION && object['kind'] === kind);
  const ready = { type: 'Ready', status: 'True', reason: 'Succeeded', message: '', lastTransitionTime: '1970-01-01T00:00:00Z' };
  const volumes = of('JuiceVolume').map((object): JuiceVolume => ({
    ...placed(parseJuiceVolume(object)),
    status: { conditions: [{ ...ready, status: 'True' }] },
  }));
  const policies = of('JuiceCachePolicy').map((object) => placed(parseJuiceCachePolicy(object)));
  const namespaces = new Map(Object.entries(options.namespaces ?? {}));
  for (const object of resources)
    if (object['kind'] === 'Namespace') {
      const { name, labels } = mapOf(object['metadata']);
      namespaces.set(textOf(name) ?? '', mapOf(labels) as Readonly<Record<string, string>>);
    }
  const allVolumes = [...volumes, ...(options.volumes ?? [])];
  const allPolicies = [...policies, ...(options.policies ?? [])];
  const find = <T extends { readonly metadata: JuiceVolume['metadata'] }>(all: readonly T[], namespace: string, name: string) =>
    all.find(({ metadata }) => (metadata.namespace ?? home) === namespace && metadata.name === name);
  return {
    volume: (namespace, name) => find(allVolumes, namespace, name),
    policy: (namespace, name) => find(allPolicies, namespace, name),
    namespaceLabels: (name) => namespaces.get(name) ?? {},
    limitRanges: (namespace) =>
      resources
        .filter(
          (object) => object['kind'] === 'LimitRange' && (textOf(mapOf(object['metadata'])['namespace']) ?? home) === namespace,
        )
        .map(limitRangeOf),
    volumeNames: (namespace) =>
      allVolumes.filter(({ metadata }) => (metadata.namespace ?? home) === namespace).map(({ metadata }) => metadata.name),
  };
}

const tokensOf = (path: string): readonly string[] =>
  path
    .split('/')
    .slice(1)
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'));

/** Applies an operation to a YAML document in place, so that comments and styles of all else stay. */
function applyToDocument(document: Document, operation: Operation): void {
  const { path } = operation;
  const tokens = tokensOf(path);
  const parentPath = tokens.slice(0, -1);
  const last = tokens.at(-1) ?? '';
  const parent = parentPath.length === 0 ? document.contents : document.getIn(parentPath, true);
  // Equal parts are written out: manifests with anchors are hard to read and to merge.
  if (operation.op === 'move') {
    if (!isSeq(parent)) throw new TypeError(`no list at ${path}`);
    parent.items.splice(Number(last), 0, ...parent.items.splice(Number(tokensOf(operation.from).at(-1)), 1));
    return;
  }
  const node = document.createNode(operation.value, { aliasDuplicateObjects: false });
  if (isSeq(parent)) {
    // An empty list is written [], and would stay in that style.
    if (parent.items.length === 0) parent.flow = false;
    parent.items.splice(last === '-' ? parent.items.length : Number(last), 0, node);
  } else if (isMap(parent)) {
    const pair = parent.items.find(({ key }) => (isScalar(key) ? key.value : key) === last);
    if (pair) pair.value = node;
    else parent.add(document.createPair(last, node));
  } else throw new TypeError(`no map or list at ${path}`);
}

function hasAliases(document: Document): boolean {
  let found = false;
  visit(document, (_, node) => {
    if (!isAlias(node)) return undefined;
    found = true;
    return visit.BREAK;
  });
  return found;
}

function readDocuments(text: string, name: string): readonly Document[] {
  if (text.length > MAX_FILE)
    throw new UserError('FileTooLarge', `${name} is longer than ${MAX_FILE / 2 ** 20} MiB; split it into several files`);
  const parsed = parseAllDocuments(text, { version: '1.1', logLevel: 'silent' });
  const documents = Array.isArray(parsed) ? (parsed as Document[]) : [];
  for (const { errors } of documents as readonly { readonly errors: readonly Error[] }[]) {
    const [error] = errors;
    if (!error) continue;
    // The parser recurses, and reports where it had to give up.
    const what = /call stack/.test(error.message) ? 'it is nested too deeply to be a manifest' : error.message.split('\n')[0];
    throw new UserError('InvalidYaml', `${name}: ${what}`, { cause: error });
  }
  return documents.filter((document) => document.contents !== null);
}

/** A document's plain value; aliases are resolved, at most 100 of them. */
function valueOf(document: Document, name: string): Json {
  try {
    return mapOf(document.toJS({ maxAliasCount: 100 }) as unknown);
  } catch (error) {
    throw new UserError('InvalidYaml', `${name}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/** The document with the operations applied, and its texts before and after. */
function rewrite(document: Document, value: Json, operations: readonly Operation[], style: object) {
  if (operations.length === 0) {
    const text = document.toString(style);
    return { value, before: text, after: text };
  }
  const isJson = isMap(document.contents) && document.contents.flow === true;
  const print = (object: Json): string =>
    isJson
      ? `${JSON.stringify(object, null, 2)}\n`
      : new Document(object, { version: '1.1', aliasDuplicateObjects: false }).toString(style);
  const inPlace = !isJson && !hasAliases(document);
  const before = inPlace ? document.toString(style) : print(value);
  if (inPlace) {
    for (const operation of operations) applyToDocument(document, operation);
    return { value: valueOf(document, ''), before, after: document.toString(style) };
  }
  const after = structuredClone(value);
  applyPatch(after, structuredClone(operations) as Operation[]);
  return { value: after, before, after: print(after) };
}

const join = (texts: readonly string[]): string => texts.map((text) => text.replace(/^---\n/, '')).join('---\n');

/**
 * Injects what is in a text of YAML or JSON documents. A pod that would be refused is left as it is; `reasons` says so.
 * Throws UserError where the text, or a resource in it that serves as input, cannot be read.
 */
export function injectFile(yamlText: string, options: InjectOptions = {}): InjectResult {
  const name = options.fileName ?? 'stdin';
  const home = options.namespace ?? 'default';
  const settings = { ...defaultSettings, localVolumes: true, ...options.settings };
  const documents = readDocuments(yamlText, name);
  const values = documents.map((document) => valueOf(document, name));
  const all = values.map((value) => resourcesOf(value));
  const cluster = clusterOf(
    all.flat().map(({ object }) => object),
    options,
  );
  // Lists whose dashes stand below their key keep standing there.
  const style = {
    lineWidth: 0,
    indentSeq: !/^( *)[\w./-]+:[ ]*\n\1- /m.test(yamlText),
    flowCollectionPadding: !/: \{\S/.test(yamlText),
  };
  const reasons: InjectReason[] = [];
  const texts = documents.map((document, index) => {
    const operations: Operation[] = [];
    for (const resource of all[index] ?? []) {
      const target = targetOf(resource);
      if (!target) continue;
      const { namespace: own, name: called, generateName } = mapOf(target.object['metadata']);
      const namespace = textOf(own) ?? home;
      const decision = planPod({ pod: target.pod, namespace, cluster, settings });
      const about = {
        kind: textOf(target.object['kind']) ?? '',
        namespace,
        name: textOf(called) ?? `${textOf(generateName) ?? ''}*`,
        action: decision.action,
      };
      if (decision.action !== 'inject') {
        reasons.push({ ...about, reason: decision.reason, message: decision.message, warnings: [] });
        continue;
      }
      const patch = patchPod(decision.pod, decision.injection, target.root);
      operations.push(...patch);
      const mounts = decision.injection.plan.mounts.map(({ volume }) => volume).join(', ');
      const [reason, message] =
        patch.length > 0 ? ['Injected', `mounts ${mounts}`] : ['AlreadyInjected', `has what it needs to mount ${mounts}`];
      const { warnings, explanation } = decision;
      reasons.push({ ...about, reason, message, warnings, explanation, plan: decision.injection.plan });
    }
    const value = values[index] ?? {};
    return { ...rewrite(document, value, operations, style), isChanged: operations.length > 0 };
  });
  const isChanged = texts.some((one) => one.isChanged);
  const after = join(texts.map((one) => one.after));
  return {
    documents: texts.map((one) => one.value),
    text: isChanged ? after : yamlText,
    diff: isChanged ? unifiedDiff(join(texts.map((one) => one.before)), after, [name, `${name} (injected)`]) : '',
    reasons,
  };
}
