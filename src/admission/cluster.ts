/** The webhook's view of the cluster: reflectors of volumes, policies and namespaces (labels only), and the two places that
 * its authority is written to. */
import { Buffer } from 'node:buffer';
import type { JuiceCachePolicy } from '../api/cachepolicy.ts';
import { JuiceCachePolicies, JuiceVolumes } from '../api/kinds.ts';
import type { JuiceVolume } from '../api/volume.ts';
import { findCondition } from '../kube/conditions.ts';
import { isAlreadyExists, isConflict } from '../kube/errors.ts';
import { withoutManagedFields } from '../kube/reflector.ts';
import { LimitRanges, MutatingWebhookConfigurations, Namespaces, Secrets, SelfSubjectReviews } from '../kube/resources.ts';
import type { KubeClient, KubeObject, Manager } from '../kube/types.ts';
import type { BundlePublisher, SecretStore } from './certs.ts';
import { limitRangeOf } from './limits.ts';
import type { Cluster } from './settings.ts';

const BY_NAMESPACE = 'namespace';
const byNamespace = (object: KubeObject): readonly string[] => [object.metadata.namespace ?? ''];

/** A volume as the decision needs it: of its status `Ready` alone, for there may be thousands, and the status is most of them. */
function bare(object: KubeObject): KubeObject {
  const volume = withoutManagedFields(object) as unknown as JuiceVolume;
  const ready = findCondition(volume.status?.conditions, 'Ready');
  return { ...volume, status: ready ? { conditions: [ready] } : {} } as unknown as KubeObject;
}

/** Adds the reflectors to a manager that was not run yet; what they hold is there once it has synced. */
export function watchCluster(manager: Manager): Cluster {
  const volumes = manager.reflector(JuiceVolumes, { indexes: { [BY_NAMESPACE]: byNamespace }, transform: bare }).store;
  const policies = manager.reflector(JuiceCachePolicies).store;
  const limitRanges = manager.reflector(LimitRanges, { optional: true, indexes: { [BY_NAMESPACE]: byNamespace } }).store;
  const namespaces = manager.reflector(Namespaces, { metadataOnly: true }).store;
  // The API server has checked them against the schemas and filled in the defaults.
  return {
    volume: (namespace, name) => volumes.get(`${namespace}/${name}`) as unknown as JuiceVolume | undefined,
    policy: (namespace, name) => policies.get(`${namespace}/${name}`) as unknown as JuiceCachePolicy | undefined,
    namespaceLabels: (name) => {
      const found = namespaces.get(name);
      return found && (found.metadata.labels ?? {});
    },
    limitRanges: (namespace) => limitRanges.byIndex(BY_NAMESPACE, namespace).map(limitRangeOf),
    volumeNames: (namespace) => volumes.byIndex(BY_NAMESPACE, namespace).map((volume) => volume.metadata.name),
  };
}

const decode = (text: string | undefined): string => Buffer.from(text ?? '', 'base64').toString();
const encode = (text: string): string => Buffer.from(text).toString('base64');

interface Secret extends KubeObject {
  readonly data?: Readonly<Record<string, string>>;
}

/** The authority's Secret. */
export function secretStore(client: KubeClient, namespace: string, name: string): SecretStore {
  const secrets = client.resource<Secret>(Secrets);
  return {
    async read(signal) {
      const found = await secrets.find({ namespace, name }, signal);
      if (!found) return undefined;
      const data = Object.fromEntries(Object.entries(found.data ?? {}).map(([key, value]) => [key, decode(value)]));
      return { data, version: found.metadata.resourceVersion ?? '' };
    },
    async write(data, version, signal) {
      const metadata = { namespace, name, labels: { 'app.kubernetes.io/managed-by': 'juicepod-webhook' } };
      const body = { type: 'Opaque', data: Object.fromEntries(Object.entries(data).map(([key, value]) => [key, encode(value)])) };
      try {
        if (version === undefined) await secrets.create({ ...body, metadata }, { signal });
        else {
          const versioned = { ...metadata, resourceVersion: version };
          await secrets.replace({ ...body, metadata: versioned }, { signal });
        }
        return true;
      } catch (error) {
        if (isAlreadyExists(error) || isConflict(error)) return false;
        throw error;
      }
    },
  };
}

interface WebhookConfiguration extends KubeObject {
  readonly webhooks?: readonly { readonly name: string; readonly clientConfig?: { readonly caBundle?: string } }[];
}

/** The caBundle of every webhook of a MutatingWebhookConfiguration; nothing else of it is ours, so nothing else is sent. */
export function bundlePublisher(client: KubeClient, name: string): BundlePublisher {
  const configurations = client.resource<WebhookConfiguration>(MutatingWebhookConfigurations);
  return {
    async read(signal) {
      const found = await configurations.find({ name }, signal);
      if (!found) return undefined;
      const bundles = (found.webhooks ?? []).map((webhook) => decode(webhook.clientConfig?.caBundle));
      return { bundles, version: found.metadata.resourceVersion ?? '' };
    },
    async publish(bundle, version, signal) {
      const found = await configurations.find({ name }, signal);
      if (found?.metadata.resourceVersion !== version) return false;
      const webhooks = (found.webhooks ?? []).map((webhook) => ({
        name: webhook.name,
        clientConfig: { caBundle: encode(bundle) },
      }));
      // With the uid, so that a configuration that is deleted meanwhile is not created again; with the version, so that
      // one that changed meanwhile is refused.
      const metadata = {
        name,
        resourceVersion: version,
        ...(found.metadata.uid === undefined ? {} : { uid: found.metadata.uid }),
      };
      try {
        await configurations.apply({ metadata, webhooks }, { fieldManager: 'juicepod-webhook-ca', signal });
        return true;
      } catch (error) {
        if (isConflict(error)) return false;
        throw error;
      }
    },
  };
}

/** The API server's clock, milliseconds to the second: the time it stamps on a review of who we are, which it does not keep. */
export function serverTime(client: KubeClient): (signal: AbortSignal) => Promise<number> {
  const reviews = client.resource(SelfSubjectReviews);
  return async (signal) => {
    const answer = await reviews.create({ metadata: { name: 'clock' } }, { signal });
    const time = Date.parse(answer.metadata.creationTimestamp ?? '');
    if (Number.isNaN(time)) throw new Error('the API server did not tell the time');
    return time;
  };
}
