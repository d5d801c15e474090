/**
 * Who uses a volume, from the sessions in its database, and what ended without cleaning up. Pure. Clients that only read keep no
 * session. The official client keeps one, too, and says nothing of credentials.
 */
import { MAX_LISTED_CLIENTS } from '../../api/volume-clients.ts';
import type { VolumeStatus } from '../../api/volume.ts';
import { timestamp } from '../../kube/conditions.ts';
import type { SessionInfo } from '../../meta/types.ts';
import type { Verdict } from './verdict.ts';

/** Where the client of a pod mounts: who is mounted there is a sidecar, and its host name the name of its pod. */
const SIDECAR_MOUNTS = /^\/juicepod\/mnt\//;
/** Pods that a message names. */
const NAMED = 10;

/** Between two looks for what was left behind, milliseconds: where clients may leave more, and where nobody can. */
const LEFT_BEHIND_MS = 10 * 60_000;
const IDLE_MS = 60 * 60_000;

/** Whether it is time to look at what takes more than one key to read: leaks, and limits that others have set. */
export function deepLookIsDue({ leaks, sessions }: VolumeStatus, now: number): boolean {
  if (!leaks) return true;
  const { deletedFiles, unreferencedSlices, staleSessions, observedAt } = leaks;
  const idle = (sessions?.active ?? 0) + deletedFiles + unreferencedSlices + staleSessions === 0;
  return now - Date.parse(observedAt) >= (idle ? IDLE_MS : LEFT_BEHIND_MS);
}

const cut = (text: string, length: number): string => (text.length > length ? text.slice(0, length) : text);

function clientOf({ sid, hostName, version, mountPoint, generation }: SessionInfo) {
  return {
    id: sid,
    host: cut(hostName, 253),
    ...(SIDECAR_MOUNTS.test(mountPoint) && hostName !== '' ? { pod: cut(hostName, 253) } : {}),
    version: cut(version, 128),
    mountPoint: cut(mountPoint, 1024),
    ...(generation === '' ? {} : { generation: cut(generation, 32) }),
  };
}

export function sessionsStatusOf(clients: readonly SessionInfo[]): NonNullable<VolumeStatus['sessions']> {
  return {
    active: clients.length,
    ...(clients.length > 0
      ? {
          clients: clients
            .toSorted((a, b) => a.sid - b.sid)
            .slice(0, MAX_LISTED_CLIENTS)
            .map(clientOf),
        }
      : {}),
  };
}

/** Who uses which generation. `old` tells since when the present one is out. */
export function credentialsOf(
  generation: string,
  clients: readonly SessionInfo[],
  old: VolumeStatus['credentials'],
  now: number,
): NonNullable<VolumeStatus['credentials']> {
  const saying = clients.filter((client) => client.generation !== '');
  const current = saying.filter((client) => client.generation === generation).length;
  return {
    generation,
    since: old?.generation === generation ? old.since : timestamp(now),
    current,
    outdated: saying.length - current,
    unknown: clients.length - saying.length,
  };
}

/** Whether every client has the newest credentials. */
export function credentialsVerdict(generation: string, clients: readonly SessionInfo[]): Verdict {
  const behind = clients.filter((client) => client.generation !== '' && client.generation !== generation);
  if (behind.length === 0)
    return { status: 'True', reason: 'Succeeded', message: `no client uses other credentials than generation ${generation}` };
  const names = behind.slice(0, NAMED).map((client) => `${client.hostName} (generation ${client.generation})`);
  const more = behind.length > NAMED ? ` and ${behind.length - NAMED} more` : '';
  return {
    status: 'False',
    reason: 'ClientsOutdated',
    message: `${behind.length} of ${clients.length} clients do not use generation ${generation} yet: ${names.join(', ')}${more}`,
  };
}
