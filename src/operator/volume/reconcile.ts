/**
 * Makes the world agree with one JuiceVolume: observe → decide → apply, until nothing is left to do, then mount Secrets, then
 * status. Level-triggered: it starts from nothing but the object's name, may be stopped anywhere, and does nothing twice.
 */
import { fieldManagers, VOLUME_FINALIZER } from '../../api/group.ts';
import type { MountConfig } from '../../api/mount.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import { ApiError, isNotFound, NotLeadingError } from '../../kube/errors.ts';
import { addFinalizer, hasFinalizer, removeFinalizer } from '../../kube/finalizer.ts';
import { keyOf, refFromKey, refOf, Secrets } from '../../kube/resources.ts';
import type {
  EventRecorder,
  KubeClient,
  Reconcile,
  ReconcileContext,
  ReconcileResult,
  Resource,
  Store,
} from '../../kube/types.ts';
import type { Clock } from '../../lib/clock.ts';
import { messageOf } from '../../lib/errors.ts';
import type { Random } from '../../lib/random.ts';
import type { Backends } from './backends.ts';
import { findConflict } from './conflict.ts';
import { decide, type Decision, summary } from './decide.ts';
import { decideDeletion } from './deletion.ts';
import { destroy } from './destroy.ts';
import { mountSecret, planSecrets } from './mountsecret.ts';
import { allowedNamespaces, type NamespaceInfo } from './namespaces.ts';
import type { Observation } from './observation.ts';
import { resolveSecrets, type SecretObject, type SecretsOutcome } from './secrets.ts';
import { nextStatus, sameStatus, type StatusInput, transitions } from './status.ts';
import { metaUrl } from './target.ts';
import { StepError, World } from './world.ts';

export const JuiceVolumes: Resource = {
  group: 'juicepod.io',
  version: 'v1alpha1',
  plural: 'juicevolumes',
  kind: 'JuiceVolume',
  namespaced: true,
};

/** Milliseconds until databases and stores are looked at again; ± 20 %. */
const POLL_MS = 60_000;
/** The same while something is missing that heals by itself. */
const RETRY_MS = 10_000;
/** format, mark, configure, and one more look. */
const MAX_STEPS = 4;

export interface VolumeReconcilerOptions {
  readonly client: KubeClient;
  readonly volumes: Store<JuiceVolume>;
  readonly namespaces: Store;
  /** Mount Secrets, by the index `volumeUid`. */
  readonly mountSecrets: Store<SecretObject>;
  readonly events: EventRecorder;
  readonly backends: Backends;
  readonly clock: Clock;
  readonly random: Random;
}

export function volumeReconciler(options: VolumeReconcilerOptions): Reconcile {
  const { client, events, clock, random, backends } = options;
  const volumes = client.resource<JuiceVolume>(JuiceVolumes);
  const secrets = client.resource<SecretObject>(Secrets);

  const after = (ms: number): ReconcileResult => ({ requeueAfterMs: Math.round(ms * (0.8 + random.float() * 0.4)) });

  function tell(volume: JuiceVolume, type: 'Normal' | 'Warning', reason: string, action: string, note: string): void {
    events.record({ regarding: volume, type, reason, action, note });
  }

  async function writeStatus(volume: JuiceVolume, input: StatusInput, signal: AbortSignal): Promise<JuiceVolume> {
    const status = nextStatus(volume, input, clock.now());
    if (sameStatus(volume.status, status)) return volume;
    const { name, namespace = 'default', uid } = volume.metadata;
    const metadata = { name, namespace, ...(uid === undefined ? {} : { uid }) };
    const written = await volumes.applyStatus({ metadata, status }, { fieldManager: fieldManagers.volume, signal });
    for (const { type, reason, note } of transitions(volume.status?.conditions, status.conditions ?? []))
      tell(volume, type, reason, 'Reconcile', note);
    return written;
  }

  async function readSecrets(volume: JuiceVolume, signal: AbortSignal): Promise<SecretsOutcome> {
    const { namespace } = volume.metadata;
    return resolveSecrets(volume.spec, (name) => secrets.find({ namespace, name }, signal));
  }

  function openWorld(
    volume: JuiceVolume,
    outcome: SecretsOutcome | undefined,
    conflict: Observation['conflict'],
    signal: AbortSignal,
  ): World {
    const others = (): Iterable<JuiceVolume> => options.volumes.values();
    return new World({ volume, others, conflict, secrets: outcome, backends, clock, random, signal });
  }

  const ownSecrets = (volume: JuiceVolume): readonly SecretObject[] =>
    volume.metadata.uid === undefined ? [] : options.mountSecrets.byIndex('volumeUid', volume.metadata.uid);

  async function removeSecret(secret: SecretObject, signal: AbortSignal): Promise<void> {
    await secrets.delete(refOf(secret), { uid: secret.metadata.uid, signal });
  }

  /** Brings the mount Secrets in line; answers how many namespaces have one, and why the own one could not be written. */
  async function syncSecrets(
    volume: JuiceVolume,
    config: MountConfig | undefined,
    ca: string | undefined,
    context: ReconcileContext,
  ): Promise<{ readonly namespaces: number; readonly refused: string | undefined }> {
    const { signal, log } = context;
    const allowed = allowedNamespaces(volume, options.namespaces.values() as Iterable<NamespaceInfo>);
    const found = ownSecrets(volume);
    if (!config) {
      // What may no longer be used goes at once; what is still allowed stays as it is until more is known.
      const stale = found.filter(({ metadata }) => !allowed.includes(metadata.namespace ?? ''));
      for (const secret of stale) await removeSecret(secret, signal);
      return { namespaces: found.length - stale.length, refused: undefined };
    }
    const plan = planSecrets(
      allowed.map((namespace) => mountSecret(volume, namespace, config, ca)),
      found,
    );
    let refused: string | undefined;
    let missing = 0;
    for (const secret of plan.remove) await removeSecret(secret, signal);
    for (const intent of plan.apply) {
      const { namespace, name, labels: own } = intent.metadata;
      try {
        const existing = await secrets.find({ namespace, name }, signal);
        if (existing && Object.entries(own).some(([label, value]) => existing.metadata.labels?.[label] !== value)) {
          const message = `Secret ${namespace}/${name} exists and was not made for this volume; delete or rename it`;
          missing++;
          if (namespace === volume.metadata.namespace) refused = message;
          else tell(volume, 'Warning', 'MountSecretRefused', 'WriteMountSecret', message);
          continue;
        }
        await secrets.apply(intent, { fieldManager: fieldManagers.volume, signal });
      } catch (error) {
        // A namespace that is ending takes nothing new; it must not stop the others.
        if (namespace === volume.metadata.namespace || !(error instanceof ApiError) || !(isNotFound(error) || error.code === 403))
          throw error;
        missing++;
        log.warn('mount Secret not written', { namespace, problem: messageOf(error) });
      }
    }
    return { namespaces: allowed.length - missing, refused };
  }

  async function reconcileSuspended(volume: JuiceVolume, signal: AbortSignal): Promise<ReconcileResult> {
    const message = 'spec.suspend is set: nothing is checked, formatted, written or deleted';
    const verdict = { type: 'Suspended', status: 'True', reason: 'Suspended', message } as const;
    const { uuid } = volume.status ?? {};
    await writeStatus(
      volume,
      { verdicts: [verdict], uuid, seen: undefined, secretNamespaces: undefined, keep: () => true },
      signal,
    );
    return {};
  }

  async function reconcileDeleted(volume: JuiceVolume, context: ReconcileContext): Promise<ReconcileResult> {
    const { signal, log } = context;
    if (!hasFinalizer(volume, VOLUME_FINALIZER)) return {};
    const conflict = findConflict(volume, options.volumes.values());
    const outcome = conflict ? undefined : await readSecrets(volume, signal);
    await using world = openWorld(volume, outcome, conflict, signal);
    const seen = await world.observe();
    const decision = decideDeletion(volume, seen);
    const { uuid } = volume.status ?? {};
    if (decision.do === 'wait') {
      await writeStatus(volume, { verdicts: decision.verdicts, uuid, seen, secretNamespaces: undefined, keep: isAspect }, signal);
      return after(RETRY_MS);
    }
    for (const secret of ownSecrets(volume)) await removeSecret(secret, signal);
    if (decision.do === 'destroy') {
      const message = `the data of the volume with UUID ${uuid} is being deleted`;
      const verdicts = [
        { type: 'Ready', status: 'False', reason: 'Deleting', message },
        { type: 'Reconciling', status: 'True', reason: 'Deleting', message },
      ] as const;
      volume = await writeStatus(volume, { verdicts, uuid, seen, secretNamespaces: 0 }, signal);
      const kind = volume.spec.metadata.sqlite ? 'sqlite' : 'redis';
      try {
        if (!(await destroy(world, { clock, logger: log, signal, kind }))) return { requeueAfterMs: 1 };
      } catch (error) {
        if (!(error instanceof StepError)) throw error;
        const failed = summary({ ...error.failure, status: 'False' });
        await writeStatus(volume, { verdicts: failed, uuid, seen, secretNamespaces: 0, keep: isAspect }, signal);
        return after(RETRY_MS);
      }
      tell(volume, 'Normal', 'Deleted', 'Destroy', `the data of the volume with UUID ${uuid} was deleted`);
    } else tell(volume, 'Normal', 'Released', 'Release', decision.note);
    await removeFinalizer(volumes, volume, VOLUME_FINALIZER, signal);
    return {};
  }

  /** Looks, decides and acts until there is nothing to do. */
  async function settle(
    volume: JuiceVolume,
    world: World,
    context: ReconcileContext,
  ): Promise<{ seen: Observation; decision: Decision }> {
    for (let round = 1; ; round++) {
      let seen = await world.observe();
      let decision = decide(volume, seen);
      if (decision.step.do === 'nothing' || round > MAX_STEPS) return { seen, decision };
      context.log.info('volume step', { step: decision.step.do });
      try {
        await world.perform(decision.step);
        tell(
          volume,
          'Normal',
          decision.step.do === 'format' ? 'Formatted' : 'Configured',
          decision.step.do,
          stepNotes[decision.step.do],
        );
      } catch (error) {
        if (!(error instanceof StepError)) throw error;
        seen = { ...seen, [error.side]: error.failure };
        decision = decide(volume, seen);
        return { seen, decision };
      }
    }
  }

  async function reconcileLive(found: JuiceVolume, context: ReconcileContext): Promise<ReconcileResult | undefined> {
    const { signal } = context;
    const conflict = findConflict(found, options.volumes.values());
    // The finalizer comes before anything is written outside the cluster.
    const volume = conflict ? found : await addFinalizer(volumes, found, VOLUME_FINALIZER, signal);
    if (!volume) return undefined;
    const outcome = conflict ? undefined : await readSecrets(volume, signal);
    await using world = openWorld(volume, outcome, conflict, signal);
    const { seen, decision } = await settle(volume, world, context);
    const formatted = decision.verdicts.find(({ type }) => type === 'Formatted')?.status === 'True';
    const config =
      formatted && outcome?.ok && decision.uuid !== undefined && world.target
        ? {
            name: world.target.input.name,
            uuid: decision.uuid,
            metaUrl: metaUrl(volume.spec, outcome.secrets),
            storage: world.target.override,
          }
        : undefined;
    const { namespaces, refused } = await syncSecrets(volume, config, outcome?.ok ? outcome.secrets.ca : undefined, context);
    const verdicts =
      refused === undefined
        ? decision.verdicts
        : decision.verdicts.map((each) =>
            each.type === 'Ready'
              ? ({ ...each, status: 'False', reason: 'MountSecretRefused', message: refused } as const)
              : each,
          );
    await writeStatus(volume, { verdicts, uuid: decision.uuid, seen, secretNamespaces: namespaces }, signal);
    return after(verdicts.some(({ type }) => type === 'Reconciling') ? RETRY_MS : POLL_MS);
  }

  /** Makes a failure visible where people look; the controller tries again with its own pauses. */
  async function explain(volume: JuiceVolume, error: unknown, signal: AbortSignal): Promise<void> {
    // A conflict with another writer is ordinary, and what the API server refuses it would refuse again.
    if (signal.aborted || error instanceof ApiError || error instanceof NotLeadingError) return;
    const verdict = { type: 'Reconciling', status: 'True', reason: 'InternalError', message: messageOf(error) } as const;
    const { uuid } = volume.status ?? {};
    await writeStatus(
      volume,
      { verdicts: [verdict], uuid, seen: undefined, secretNamespaces: undefined, keep: () => true },
      signal,
    );
  }

  return async (key, context) => {
    // Read live: deciding on an old status could format twice.
    const volume = await volumes.find(refFromKey(key), context.signal);
    if (!volume) return undefined;
    const scoped = { ...context, log: context.log.child({ volume: keyOf(volume) }) };
    if (volume.spec.suspend) return reconcileSuspended(volume, context.signal);
    try {
      return await (volume.metadata.deletionTimestamp === undefined
        ? reconcileLive(volume, scoped)
        : reconcileDeleted(volume, scoped));
    } catch (error) {
      await explain(volume, error, context.signal);
      throw error;
    }
  };
}

/** Conditions that say what `Ready` rests on; the others are there only while true. */
function isAspect(type: string): boolean {
  return !['Reconciling', 'Stalled', 'Suspended', 'DeletionUnconfirmed'].includes(type);
}

const stepNotes: Readonly<Record<Decision['step']['do'], string>> = {
  format: 'the database and the object store were empty; the volume was formatted',
  configure: 'the settings of the volume were changed to what the spec says',
  mark: 'juicefs_uuid was written to the object store',
  nothing: 'nothing was done',
};
