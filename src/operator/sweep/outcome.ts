/**
 * What became of a pod's volumes in sync mode, once the pod has ended or is about to: what was not written back, and where both sides
 * had changed a file. Pure: a raw pod in, the outcomes worth an event out.
 *
 * The sidecar says it in its termination message, a line each (`syncReports`). One that was killed has said nothing: then
 * nobody knows, and that is worth telling, too.
 */
import { annotations, sidecars, syncReports } from '../../api/group.ts';
import { type Json, listOf, mapOf } from '../../lib/json.ts';

export interface Outcome {
  readonly reason: (typeof syncReports)[keyof typeof syncReports];
  /** What happened, and what to do. */
  readonly message: string;
  /** When the sidecar ended, milliseconds since the epoch; undefined where the pod does not say. */
  readonly at: number | undefined;
}

const mapsOf = (value: unknown): readonly Json[] => listOf(value).map(mapOf);

const ADVICE: Readonly<Record<Outcome['reason'], string>> = {
  [syncReports.notFlushed]:
    'What is only on the disk of a pod goes with the pod: give later ones more time (terminationGracePeriodSeconds), look at the store, the database and the quotas of the volume, or use mode fuse',
  [syncReports.conflictKept]: 'Compare the two, and remove the one that is not wanted',
};

/** Whether the pod has a volume in sync mode that is written to. */
function writes(metadata: Json): boolean {
  try {
    const plan = mapOf(JSON.parse(String(mapOf(metadata['annotations'])[annotations.plan])));
    return mapsOf(plan['mounts']).some((mount) => mount['mode'] === 'sync' && mount['readOnly'] !== true);
  } catch {
    return false;
  }
}

/** Whether any program of the pod has begun: before that nobody can have changed anything. */
const begun = (status: Json): boolean =>
  mapsOf(status['containerStatuses']).some((container) => mapOf(container['state'])['waiting'] === undefined);

function linesOf(terminated: Json): readonly { readonly reason: Outcome['reason']; readonly text: string }[] {
  const message = terminated['message'];
  if (typeof message !== 'string') return [];
  return message.split('\n').flatMap((line) => {
    const reason = Object.values(syncReports).find((one) => line.startsWith(`${one}: `));
    return reason ? [{ reason, text: line.slice(reason.length + 2) }] : [];
  });
}

/** What is to be told of a pod; nothing while it goes on. At most one outcome of each reason. */
export function outcomesOf(pod: unknown): readonly Outcome[] {
  const { metadata, status: anyStatus } = mapOf(pod);
  const status = mapOf(anyStatus);
  const ending =
    mapOf(metadata)['deletionTimestamp'] !== undefined || status['phase'] === 'Succeeded' || status['phase'] === 'Failed';
  const sidecar = mapsOf(status['initContainerStatuses']).find(({ name }) => name === sidecars.sync);
  if (!ending || !sidecar) return [];
  const now = mapOf(mapOf(sidecar['state'])['terminated']);
  // A sidecar that was started again has had another try: what it says counts, if it says anything.
  const said = [now, mapOf(mapOf(sidecar['lastState'])['terminated'])].find(
    (ended) => ended['exitCode'] === 0 || linesOf(ended).length > 0,
  );
  const ended = said ?? now;
  const time = Date.parse(String(ended['finishedAt']));
  const at = Number.isNaN(time) ? undefined : time;
  if (said) {
    const lines = linesOf(said);
    return Object.values(syncReports).flatMap((reason) => {
      const texts = lines.filter((line) => line.reason === reason).map(({ text }) => text);
      return texts.length > 0 ? [{ reason, message: `${texts.join('; ')}. ${ADVICE[reason]}`, at }] : [];
    });
  }
  const { exitCode, reason } = now;
  const killed = typeof exitCode === 'number' && (exitCode > 128 || reason === 'OOMKilled');
  if (!killed || !writes(mapOf(metadata)) || !begun(status)) return [];
  const why = `${typeof reason === 'string' && reason !== 'Error' ? `${reason}, ` : ''}exit code ${exitCode}`;
  return [
    {
      reason: syncReports.notFlushed,
      message: `${sidecars.sync} was killed (${why}) before it could say that everything was written back. ${ADVICE.NotFlushed}`,
      at,
    },
  ];
}
