/** Built-in kinds that the product touches, and keys: "namespace/name", or "name" for what has no namespace. */
import type { KubeObject, ObjectRef, Resource } from './types.ts';

const kind = (group: string, version: string, kind: string, plural: string, namespaced = true): Resource =>
  Object.freeze({ group, version, plural, kind, namespaced });

export const Pods = kind('', 'v1', 'Pod', 'pods');
export const Secrets = kind('', 'v1', 'Secret', 'secrets');
export const ConfigMaps = kind('', 'v1', 'ConfigMap', 'configmaps');
export const Namespaces = kind('', 'v1', 'Namespace', 'namespaces', false);
export const LimitRanges = kind('', 'v1', 'LimitRange', 'limitranges');
export const Nodes = kind('', 'v1', 'Node', 'nodes', false);
export const Deployments = kind('apps', 'v1', 'Deployment', 'deployments');
export const StatefulSets = kind('apps', 'v1', 'StatefulSet', 'statefulsets');
export const Jobs = kind('batch', 'v1', 'Job', 'jobs');
export const Leases = kind('coordination.k8s.io', 'v1', 'Lease', 'leases');
export const PersistentVolumes = kind('', 'v1', 'PersistentVolume', 'persistentvolumes', false);
export const PersistentVolumeClaims = kind('', 'v1', 'PersistentVolumeClaim', 'persistentvolumeclaims');
export const StorageClasses = kind('storage.k8s.io', 'v1', 'StorageClass', 'storageclasses', false);
/** As the kubelet and the scheduler write them, and as they can be selected by object. */
export const CoreEvents = kind('', 'v1', 'Event', 'events');
export const EndpointSlices = kind('discovery.k8s.io', 'v1', 'EndpointSlice', 'endpointslices');
export const ReplicaSets = kind('apps', 'v1', 'ReplicaSet', 'replicasets');
export const DaemonSets = kind('apps', 'v1', 'DaemonSet', 'daemonsets');
export const CronJobs = kind('batch', 'v1', 'CronJob', 'cronjobs');
export const Events = kind('events.k8s.io', 'v1', 'Event', 'events');
export const SelfSubjectReviews = kind('authentication.k8s.io', 'v1', 'SelfSubjectReview', 'selfsubjectreviews', false);
export const CustomResourceDefinitions = kind(
  'apiextensions.k8s.io',
  'v1',
  'CustomResourceDefinition',
  'customresourcedefinitions',
  false,
);
export const MutatingWebhookConfigurations = kind(
  'admissionregistration.k8s.io',
  'v1',
  'MutatingWebhookConfiguration',
  'mutatingwebhookconfigurations',
  false,
);

/** "group/version", or "version" for the core. */
export function apiVersionOf(resource: Resource): string {
  return resource.group === '' ? resource.version : `${resource.group}/${resource.version}`;
}

/** The key of an object in stores and queues. */
export function keyOf(object: KubeObject): string {
  const { namespace, name } = object.metadata;
  return namespace ? `${namespace}/${name}` : name;
}

/** The key of a name. */
export function keyFor(ref: ObjectRef): string {
  return ref.namespace ? `${ref.namespace}/${ref.name}` : ref.name;
}

/** The name that a key stands for. */
export function refFromKey(key: string): ObjectRef {
  const slash = key.indexOf('/');
  return slash < 0 ? { name: key } : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}

/** The name of an object. */
export function refOf(object: KubeObject): ObjectRef {
  const { namespace, name } = object.metadata;
  return namespace ? { namespace, name } : { name };
}

/** The path of a kind, of one namespace or of one object, without a query. */
export function pathOf(resource: Resource, ref: { readonly namespace?: string | undefined; readonly name?: string }): string {
  const root = resource.group === '' ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`;
  const scope = resource.namespaced && ref.namespace ? `/namespaces/${encodeURIComponent(ref.namespace)}` : '';
  const name = ref.name === undefined ? '' : `/${encodeURIComponent(ref.name)}`;
  return `${root}${scope}/${resource.plural}${name}`;
}
