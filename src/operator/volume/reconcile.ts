/**
 * Makes the world agree with one JuiceVolume: observe → decide → apply, until nothing is left to do, then mount Secrets, then
 * status. Level-triggered: it starts from nothing but the object's name, may be stopped anywhere, and does nothing twice.
 */
import { JuiceVolumes } from '../../api/kinds.ts';
import type { JuiceCachePolicy } from '../../api/cachepolicy.ts';
import { fieldManagers, VOLUME_FINALIZER } from '../../api/group.ts';
import type { MountConfig } from '../../api/mount.ts';
import type { JuiceVolume, VolumeStatus } from '../../api/volume.ts';
import { timestamp } from '../../kube/conditions.ts';
import { ApiError, isForbidden, NotLeadingError } from '../../kube/errors.ts';
import { addFinalizer, hasFinalizer, removeFinalizer } from '../../kube/finalizer.ts';
import { keyOf, refFromKey, Secrets } from '../../kube/resources.ts';
import type { EventRecorder, KubeClient, Reconcile, ReconcileContext, ReconcileResult, Store } from '../../kube/types.ts';
import type { Clock } from '../../lib/clock.ts';
import { messageOf } from '../../lib/errors.ts';
import type { Random } from '../../lib/random.ts';
import { guardedBackends } from '../guard.ts';
import { advised } from './advice.ts';
import type { Backends } from './backends.ts';
import { credentialsVerdict } from './clients.ts';
import { findConflict } from './conflict.ts';
import { decide, type Decision, type Step, summary } from './decide.ts';
import { decideDeletion } from './deletion.ts';
import { podsOf } from './pods.ts';
import { destroy } from './destroy.ts';
import { ownKeySecrets } from './encryption.ts';
import { neighbours, policyKeys } from './indexes.ts';
import { performKeyStep } from './keyapply.ts';
import { readKeys } from './keys.ts';
import { configOf, isMountSecret } from './mountsecret.ts';
import { removeSecret, syncMountSecrets } from './mountsync.ts';
import { allowedNamespaces, type NamespaceInfo } from './namespaces.ts';
import type { Observation } from './observation.ts';
import { claims } from './quotas.ts';
import { resolveSecrets, type SecretObject, type SecretsOutcome, tlsTexts } from './secrets.ts';
import { nextStatus, sameStatus, type StatusInput, transitions, withOwnStatus } from './status.ts';
import { storageKeys } from './storage-target.ts';
import { backupIn, metaUrl } from './target.ts';
import { StepError, World } from './world.ts';

/** Milliseconds until databases and stores are looked at again; ± 20 %. */
const POLL_MS = 60_000;
/** The same while something is missing that heals by itself. */
const RETRY_MS = 10_000;
/** A passphrase, a key, format, mark, settings, limits, a copy of the key, the end of a rotation, and one more look. */
const MAX_STEPS = 10;
/**
 * Milliseconds that clients have both passphrases before the key is put under the new one: the kubelet brings a changed Secret
 * into a pod within two minutes, and a client that restarts meanwhile must find one that opens the key.
 */
const ROTATION_PAUSE_MS = 150_000;

export interface VolumeReconcilerOptions {
  readonly client: KubeClient;
  /** Indexed by `volumeIndexes`. */
  readonly volumes: Store<JuiceVolume>;
  readonly policies: Store<JuiceCachePolicy>;
  readonly namespaces: Store;
  /** Names of the namespaces that the operator may look into. @default all */
  readonly watched?: readonly string[];
  /** Mount Secrets, by the index `volumeUid`. */
  readonly mountSecrets: Store<SecretObject>;
  readonly events: EventRecorder;
  readonly backends: Backends;
  /** Asked before each write outside the API server; throws where this process does not lead. */
  readonly prove: (what: string) => void;
  /** @default 150000 */
  readonly rotationPauseMs?: number;
  readonly clock: Clock;
  readonly random: Random;
}

export function volumeReconciler(options: VolumeReconcilerOptions): Reconcile {
  const { client, events, clock, random, prove } = options;
  const backends = guardedBackends(options.backends, prove);
  const rotationPause = options.rotationPauseMs ?? ROTATION_PAUSE_MS;
  const volumes = client.resource<JuiceVolume>(JuiceVolumes);
  const secrets = client.resource<SecretObject>(Secrets);

  const after = (ms: number): ReconcileResult => ({ requeueAfterMs: Math.round(ms * (0.8 + random.float() * 0.4)) });

  function tell(volume: JuiceVolume, type: 'Normal' | 'Warning', reason: string, action: string, note: string): void {
    events.record({ regarding: volume, type, reason, action, note });
  }

  async function applyStatus(volume: JuiceVolume, status: VolumeStatus, signal: AbortSignal): Promise<JuiceVolume> {
    const { name, namespace = 'default', uid } = volume.metadata;
    const metadata = { name, namespace, ...(uid === undefined ? {} : { uid }) };
    return withOwnStatus(await volumes.applyStatus({ metadata, status }, { fieldManager: fieldManagers.volume, signal }));
  }

  async function writeStatus(volume: JuiceVolume, input: StatusInput, signal: AbortSignal): Promise<JuiceVolume> {
    const status = nextStatus(volume, input, clock.now());
    if (sameStatus(volume.status, status)) return volume;
    const written = await applyStatus(volume, status, signal);
    for (const { type, reason, note } of transitions(volume.status?.conditions, status.conditions ?? []))
      tell(volume, type, reason, 'Reconcile', note);
    return written;
  }

  const reader = (volume: JuiceVolume, signal: AbortSignal) => {
    const { namespace } = volume.metadata;
    return (name: string): Promise<SecretObject | undefined> => secrets.find({ namespace, name }, signal);
  };

  const conflictOf = (volume: JuiceVolume): Observation['conflict'] => findConflict(volume, neighbours(volume, options.volumes));

  const ownSecrets = (volume: JuiceVolume): readonly SecretObject[] =>
    volume.metadata.uid === undefined ? [] : options.mountSecrets.byIndex('volumeUid', volume.metadata.uid).filter(isMountSecret);

  /** What the mount Secret of the volume's own namespace says now. */
  const mounted = (volume: JuiceVolume): MountConfig | undefined =>
    configOf(ownSecrets(volume).find(({ metadata }) => metadata.namespace === volume.metadata.namespace));

  function openWorld(
    volume: JuiceVolume,
    outcome: SecretsOutcome | undefined,
    conflict: Observation['conflict'],
    signal: AbortSignal,
  ): World {
    const { passphrase, previous } = mounted(volume)?.encryption ?? {};
    const earlier = [passphrase, previous].filter((each) => each !== undefined);
    const since = volume.status?.encryption?.rotatingSince;
    const [policy] = policyKeys(volume);
    return new World({
      volume,
      others: (uuid) => options.volumes.byIndex('uuid', uuid),
      conflict,
      secrets: outcome,
      keys: async () => outcome && readKeys(volume, outcome, earlier, reader(volume, signal)),
      rewrapDue: (wanted) => passphrase === wanted && since !== undefined && clock.now() - Date.parse(since) >= rotationPause,
      policyExists: policy === undefined ? undefined : options.policies.get(policy) !== undefined,
      backends,
      clock,
      random,
      signal,
    });
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

  /** As long as there is data, there is its key; and no longer. */
  async function removeKeys(volume: JuiceVolume, outcome: SecretsOutcome | undefined, signal: AbortSignal): Promise<void> {
    const keys = await readKeys(volume, outcome ?? { ok: true, secrets: {} }, [], reader(volume, signal));
    const { passphraseSecret, keySecret } = keys?.ok ? keys.material : {};
    for (const secret of [passphraseSecret, keySecret]) if (secret) await removeSecret(secrets, secret, signal);
  }

  async function reconcileDeleted(volume: JuiceVolume, context: ReconcileContext): Promise<ReconcileResult> {
    const { signal, log } = context;
    if (!hasFinalizer(volume, VOLUME_FINALIZER)) return {};
    const conflict = conflictOf(volume);
    const outcome = conflict ? undefined : await resolveSecrets(volume.spec, reader(volume, signal));
    await using world = openWorld(volume, outcome, conflict, signal);
    const seen = await world.observe();
    const first = decideDeletion(volume, seen);
    const decision =
      first.do === 'wait' ? first : decideDeletion(volume, seen, await podsOf(client, volume, options.watched, signal));
    const { uuid } = volume.status ?? {};
    if (decision.do === 'wait') {
      await writeStatus(volume, { verdicts: decision.verdicts, uuid, seen, secretNamespaces: undefined, keep: isAspect }, signal);
      return after(RETRY_MS);
    }
    for (const secret of ownSecrets(volume)) await removeSecret(secrets, secret, signal);
    if (decision.do === 'destroy') {
      const message = `the data of the volume with UUID ${uuid} is being deleted`;
      const verdicts = [
        { type: 'Ready', status: 'False', reason: 'Deleting', message },
        { type: 'Reconciling', status: 'True', reason: 'Deleting', message },
      ] as const;
      volume = await writeStatus(volume, { verdicts, uuid, seen, secretNamespaces: 0 }, signal);
      const kind = volume.spec.metadata.redis ? 'redis' : 'sql';
      try {
        const beforeMarker = () => removeKeys(volume, outcome, signal);
        if (!(await destroy(world, { clock, logger: log, signal, kind, prove, beforeMarker }))) return { requeueAfterMs: 1 };
      } catch (error) {
        if (!(error instanceof StepError)) throw error;
        const failed = summary({ ...advised(error.failure, volume.spec), status: 'False' });
        await writeStatus(volume, { verdicts: failed, uuid, seen, secretNamespaces: 0, keep: isAspect }, signal);
        return after(RETRY_MS);
      }
      tell(volume, 'Normal', 'Deleted', 'Destroy', `the data of the volume with UUID ${uuid} was deleted`);
    } else {
      const kept = ownKeySecrets(volume);
      const note = kept.length > 0 ? `${decision.note}; so do its key and passphrase, in ${kept.join(' and ')}` : decision.note;
      tell(volume, 'Normal', 'Released', 'Release', note);
    }
    await removeFinalizer(volumes, volume, VOLUME_FINALIZER, signal);
    return {};
  }

  async function perform(volume: JuiceVolume, world: World, step: Step, seen: Observation, signal: AbortSignal): Promise<void> {
    switch (step.do) {
      case 'nothing':
        return;
      case 'format':
      case 'configure':
      case 'mark':
      case 'limits':
      case 'rewrap':
        return world.perform(step);
      default: {
        const keys = seen.encryption?.keys;
        if (!keys?.ok) throw new TypeError(`the step ${step.do} was decided without keys`);
        const writer = { volume, material: keys.material, secrets, fieldManager: fieldManagers.volume, random, signal };
        return performKeyStep(step, writer);
      }
    }
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
      const { step } = decision;
      if (step.do === 'nothing' || round > MAX_STEPS) return { seen, decision };
      context.log.info('volume step', { step: step.do });
      try {
        await perform(volume, world, step, seen, context.signal);
        tell(volume, 'Normal', step.do === 'format' ? 'Formatted' : 'Configured', step.do, stepNotes[step.do]);
      } catch (error) {
        if (!(error instanceof StepError)) throw error;
        seen = { ...seen, [error.side]: advised(error.failure, volume.spec) };
        decision = decide(volume, seen);
        return { seen, decision };
      }
    }
  }

  /** What clients need, of proved things only; undefined where not all of it is. */
  function mountConfig(
    volume: JuiceVolume,
    world: World,
    outcome: SecretsOutcome | undefined,
    { seen, decision }: { readonly seen: Observation; readonly decision: Decision },
  ): MountConfig | undefined {
    const { target } = world;
    const isTrue = (type: string): boolean => decision.verdicts.find((each) => each.type === type)?.status === 'True';
    if (!isTrue('Formatted') || !outcome?.ok || decision.uuid === undefined || !target) return undefined;
    if (volume.spec.encryption && !isTrue('EncryptionReady')) return undefined;
    const reached = seen.storage?.state === 'reached';
    const before = mounted(volume);
    if (!reached && !before) return undefined;
    // Keys that the store has not taken yet do not replace those that it took.
    const keys = storageKeys(volume.spec.storage, outcome.secrets);
    const material = seen.encryption?.keys.ok ? seen.encryption.keys.material : undefined;
    const previous = decision.rotating ? seen.encryption?.earlier : undefined;
    return {
      name: target.input.name,
      uuid: decision.uuid,
      metaUrl: metaUrl(volume.spec, outcome.secrets),
      storage: reached ? { ...target.override, ...keys } : (before?.storage ?? {}),
      readOnly: volume.spec.access.readOnly,
      ...backupIn(volume.spec),
      ...(material?.passphrase === undefined
        ? {}
        : { encryption: { passphrase: material.passphrase, ...(previous === undefined ? {} : { previous }) } }),
    };
  }

  async function reconcileLive(found: JuiceVolume, context: ReconcileContext): Promise<ReconcileResult | undefined> {
    const { signal } = context;
    const conflict = conflictOf(found);
    // The finalizer comes before anything is written outside the cluster.
    const finalized = conflict ? found : await addFinalizer(volumes, found, VOLUME_FINALIZER, signal);
    if (!finalized) return undefined;
    const kept = withOwnStatus(finalized);
    const claimed = conflict ? undefined : claims(kept);
    const volume = claimed ? await applyStatus(kept, claimed, signal) : kept;
    const outcome = conflict ? undefined : await resolveSecrets(volume.spec, reader(volume, signal));
    await using world = openWorld(volume, outcome, conflict, signal);
    const settled = await settle(volume, world, context);
    const { seen, decision } = settled;
    const inUse = mounted(volume)?.encryption?.passphrase;
    const config = mountConfig(volume, world, outcome, settled);
    const { namespaces, refused, generation } = await syncMountSecrets({
      volume,
      config,
      tls: outcome?.ok ? tlsTexts(outcome.secrets) : {},
      allowed: allowedNamespaces(volume, options.namespaces.values() as Iterable<NamespaceInfo>),
      found: ownSecrets(volume),
      secrets,
      warn: (message) => tell(volume, 'Warning', 'MountSecretRefused', 'WriteMountSecret', message),
      context,
    });
    const verdicts = [
      ...decision.verdicts.map((each) =>
        each.type === 'Ready' && refused !== undefined
          ? ({ ...each, status: 'False', reason: 'MountSecretRefused', message: refused } as const)
          : each,
      ),
      ...(refused !== undefined && decision.ready
        ? [{ type: 'Reconciling', status: 'True', reason: 'MountSecretRefused', message: refused } as const]
        : []),
      ...(generation !== undefined && seen.metadata?.state === 'volume'
        ? [{ type: 'CredentialsCurrent', ...credentialsVerdict(generation, seen.metadata.clients) } as const]
        : []),
    ];
    const begun = volume.status?.encryption?.rotatingSince;
    const rotatingSince =
      decision.rotating && config?.encryption
        ? inUse === config.encryption.passphrase && begun !== undefined
          ? begun
          : timestamp(clock.now())
        : undefined;
    await writeStatus(
      volume,
      { verdicts, uuid: decision.uuid, seen, secretNamespaces: namespaces, generation, rotatingSince },
      signal,
    );
    return after(verdicts.some(({ type }) => type === 'Reconciling') ? RETRY_MS : POLL_MS);
  }

  /** Makes a failure visible where people look; the controller tries again with its own pauses. */
  async function explain(volume: JuiceVolume, error: unknown, signal: AbortSignal): Promise<void> {
    const forbidden = isForbidden(error);
    // A conflict with another writer is ordinary, and a server that is away takes no status either.
    if (signal.aborted || (error instanceof ApiError && !forbidden) || error instanceof NotLeadingError) return;
    const reason = forbidden ? 'ApiForbidden' : 'InternalError';
    const verdict = { type: 'Reconciling', status: 'True', reason, message: messageOf(error) } as const;
    // Events are another right than the status, which may be what is forbidden.
    if (forbidden) tell(volume, 'Warning', reason, 'Reconcile', messageOf(error));
    const { uuid } = volume.status ?? {};
    // What was claimed before the failure stays claimed.
    const status = volume.metadata.deletionTimestamp === undefined ? claims(volume) : undefined;
    await writeStatus(
      status ? { ...volume, status } : volume,
      { verdicts: [verdict], uuid, seen: undefined, secretNamespaces: undefined, keep: () => true },
      signal,
    );
  }

  return async (key, context) => {
    // Read live: deciding on an old status could format twice.
    const found = await volumes.find(refFromKey(key), context.signal);
    if (!found) return undefined;
    const volume = withOwnStatus(found);
    const scoped = { ...context, log: context.log.child({ volume: keyOf(volume) }) };
    if (volume.spec.suspend) return reconcileSuspended(volume, context.signal);
    try {
      return await (volume.metadata.deletionTimestamp === undefined
        ? reconcileLive(volume, scoped)
        : reconcileDeleted(volume, scoped));
    } catch (error) {
      await explain(volume, error, context.signal).catch((second: unknown) => {
        // What went wrong first is what the log shall say.
        if (!isForbidden(second)) throw second;
      });
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
  limits: 'limits of directories, users or groups were changed to what the spec says',
  makePassphrase: 'a passphrase was made and put into a Secret',
  makeKey: 'an RSA key was made, and put into a Secret, encrypted with the passphrase',
  copyKey: 'the key as the volume has it now was copied into its Secret',
  renewPassphrase: 'another passphrase was made; clients are given both',
  restorePassphrase: 'the Secret with the passphrase was lost, and made again from what clients use',
  rewrap: 'the key of the volume was encrypted with the new passphrase',
  endRotation: 'the passphrase before was forgotten',
  mark: 'juicefs_uuid was written to the object store',
  nothing: 'nothing was done',
};
