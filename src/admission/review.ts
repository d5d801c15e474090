/**
 * AdmissionReview (admission.k8s.io/v1): request in, response out. Pure; what it looks up lies in memory.
 * Source: k8s.io/api/admission/v1; k8s.io/apiserver, plugin/webhook/mutating (limits of warnings).
 */
import { Buffer } from 'node:buffer';
import { annotations } from '../api/group.ts';
import { type Json, mapOf, textOf } from '../lib/json.ts';
import { patchPod } from './patch.ts';
import { planPod } from './plan.ts';
import type { Cluster, Settings } from './settings.ts';

const API_VERSION = 'admission.k8s.io/v1';
// The API server cuts longer ones.
const MAX_WARNING = 256;

/** What was decided, for metrics and logs. */
export interface Outcome {
  readonly action: 'ignore' | 'refuse' | 'inject';
  /** CamelCase, one of a closed set. */
  readonly reason: string;
  readonly message: string;
  readonly namespace: string;
  readonly pod: string;
  readonly operations: number;
}

export type Reviewed =
  | { readonly ok: true; readonly body: Json; readonly outcome: Outcome }
  /** Not an AdmissionReview: there is no uid to answer to. */
  | { readonly ok: false; readonly error: string };

function answer(uid: string, response: Json): Json {
  return { apiVersion: API_VERSION, kind: 'AdmissionReview', response: { uid, ...response } };
}

/** A refusal as kubectl shows it: "Error from server (Reason): admission webhook … denied the request: message". */
export function denial(uid: string, code: number, reason: string, message: string): Json {
  return answer(uid, {
    allowed: false,
    status: { status: 'Failure', code, reason, message },
    auditAnnotations: { decision: 'refuse', reason },
  });
}

/** The uid of a review, or what is wrong with it. */
export function uidOf(body: unknown): { readonly uid: string; readonly request: Json } | { readonly error: string } {
  const review = mapOf(body);
  if (review['kind'] !== 'AdmissionReview' || review['apiVersion'] !== API_VERSION)
    return { error: `an AdmissionReview of ${API_VERSION} is wanted` };
  const request = mapOf(review['request']);
  const uid = textOf(request['uid']);
  return uid ? { uid, request } : { error: 'the AdmissionReview has no request with a uid' };
}

/** Reviews the creation of a pod. Anything else that is well-formed is allowed as it is. */
export function review(body: unknown, cluster: Cluster, settings: Settings): Reviewed {
  const found = uidOf(body);
  if ('error' in found) return { ok: false, error: found.error };
  const { uid, request } = found;
  const object = request['object'];
  const metadata = mapOf(mapOf(object)['metadata']);
  // On CREATE the object often has no namespace and, from a controller, only a generateName.
  const namespace = textOf(request['namespace']) || textOf(metadata['namespace']) || 'default';
  const pod = textOf(metadata['name']) || `${textOf(metadata['generateName']) ?? ''}*`;
  const outcome = (action: Outcome['action'], reason: string, message: string, operations = 0): Outcome => ({
    action,
    reason,
    message,
    namespace,
    pod,
    operations,
  });
  const resource = mapOf(request['resource']);
  const isPodCreation =
    request['operation'] === 'CREATE' &&
    resource['resource'] === 'pods' &&
    (resource['group'] ?? '') === '' &&
    (request['subResource'] ?? '') === '';
  if (!isPodCreation)
    return {
      ok: true,
      body: answer(uid, { allowed: true }),
      outcome: outcome('ignore', 'NotAPodCreation', 'only the creation of pods is changed'),
    };
  if (typeof object !== 'object' || object === null || Array.isArray(object)) {
    const message = 'the AdmissionReview has no object';
    return { ok: true, body: denial(uid, 400, 'BadRequest', message), outcome: outcome('refuse', 'BadRequest', message) };
  }
  const decision = planPod({ pod: object, namespace, cluster, settings });
  switch (decision.action) {
    case 'ignore': {
      const { reason, message } = decision;
      const allowed = { allowed: true, auditAnnotations: { decision: 'ignore', reason } };
      return { ok: true, body: answer(uid, allowed), outcome: outcome('ignore', reason, message) };
    }
    case 'refuse': {
      const { reason, message } = decision;
      const code = reason === 'AnnotationInvalid' || reason === 'PodInvalid' ? 400 : 403;
      return { ok: true, body: denial(uid, code, reason, message), outcome: outcome('refuse', reason, message) };
    }
    case 'inject': {
      const { injection, explanation, warnings } = decision;
      const operations = patchPod(decision.pod, injection);
      const patch = Buffer.from(JSON.stringify(operations)).toString('base64');
      const response = {
        allowed: true,
        ...(operations.length > 0 ? { patchType: 'JSONPatch', patch } : {}),
        ...(warnings.length > 0 ? { warnings: warnings.map((warning) => warning.slice(0, MAX_WARNING)) } : {}),
        auditAnnotations: {
          decision: 'inject',
          volumes: injection.plan.mounts.map((mount) => mount.volume).join(','),
          image: textOf(injection.sidecars.at(-1)?.['image']) ?? '',
          platform: explanation.platform,
          mode: [...new Set(explanation.volumes.map(({ mode }) => mode))].join(','),
        },
      };
      const message = `volumes of the annotation ${annotations.volumes}`;
      const reason = operations.length > 0 ? 'Injected' : 'AlreadyInjected';
      return { ok: true, body: answer(uid, response), outcome: outcome('inject', reason, message, operations.length) };
    }
    default:
      return decision satisfies never;
  }
}
