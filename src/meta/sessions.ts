/**
 * The session of this client: registered while it is mounted, renewed by heartbeats, cleaned up by others when it stops
 * renewing. A heartbeat also reloads the format, and so finds out that the volume was changed, or is gone.
 *
 * Clocks of clients may differ. A session is not taken for dead because the time it wrote is over by our clock alone: it must also stay
 * as it is for two heartbeats. And the time that we write never goes back, whatever our clock does.
 *
 * Source: the JuiceFS format, session life cycle and stale session cleanup.
 */
import { hostname, networkInterfaces } from 'node:os';
import { messageOf } from '../lib/errors.ts';
import packageJson from '../../package.json' with { type: 'json' };
import { CLIENT_VERSION, type Format, MAX_META_VERSION, parseFormat, serialiseFormat } from './format.ts';
import { claim } from './jobs.ts';
import { deleteSustained } from './remove.ts';
import type { SessionInfo } from './types.ts';
import type { Volume } from './volume.ts';

/** Heartbeats that may be missed before others clean up. */
const MISSED_BEATS = 5;
const STALE_PER_ROUND = 1000;
/** Heartbeats that a session which seems to be over is watched for, and how often it is looked at: we may have been held up ourselves. */
const WATCHED_BEATS = 2;
const WATCHED_TIMES = 3;

/** The version that others see: which JuiceFS we behave as, and what we are. */
export const SESSION_VERSION = `${CLIENT_VERSION}+juicepod-${packageJson.version}`;

function addresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((list) =>
    (list ?? []).filter((address) => !address.internal).map((address) => address.address),
  );
}

/**
 * The text that describes a session, members in JuiceFS's order. `generation` names the credentials in use, where somebody
 * numbers them; the official client ignores that member.
 */
export function sessionText(mountPoint: string, nowMs: number, pid: number, generation?: string): string {
  const ips = addresses();
  return JSON.stringify({
    Version: SESSION_VERSION,
    HostName: hostname(),
    ...(ips.length > 0 ? { IPAddrs: ips } : {}),
    MountPoint: mountPoint,
    MountTime: new Date(nowMs).toISOString(),
    ProcessID: pid,
    ...(generation === undefined ? {} : { CredentialsGeneration: generation }),
  });
}

/** Reads what a client wrote about itself; members that are missing or of another type are empty. */
export function parseSession(sid: number, expire: number, text: string | undefined): SessionInfo {
  let info: Record<string, unknown> = {};
  try {
    const parsed: unknown = JSON.parse(text ?? '{}');
    if (typeof parsed === 'object' && parsed !== null) info = parsed as Record<string, unknown>;
  } catch {
    // A session without a readable description is still a session.
  }
  const string = (name: string): string => (typeof info[name] === 'string' ? info[name] : '');
  return {
    sid,
    expire,
    version: string('Version'),
    hostName: string('HostName'),
    mountPoint: string('MountPoint'),
    mountTime: string('MountTime'),
    processId: typeof info['ProcessID'] === 'number' ? info['ProcessID'] : 0,
    generation: string('CredentialsGeneration'),
  };
}

/** A session that seems to be over: what it wrote last, since when it is seen so (monotonic ms), and how often it was. */
interface Suspect {
  readonly expire: number;
  readonly since: number;
  seen: number;
}

export class Session {
  readonly #volume: Volume;
  readonly #beat: number;
  #info = '';
  #mountPoint = '';
  #began = 0;
  #renewed = Infinity;
  /** The latest time that was written, Unix seconds, and when (monotonic ms). */
  #wall: { readonly seconds: number; readonly at: number } | undefined;
  #suspects = new Map<number, Suspect>();
  #toldOfClocks = false;
  /** Others may have cleaned up after this session, for it was not renewed in time. */
  #thoughtDead = false;

  /** `beat` is the time between heartbeats, ms. */
  constructor(volume: Volume, beat: number) {
    this.#volume = volume;
    this.#beat = beat;
  }

  /** Registers, unless the mount is read-only (then the id is 0). `resume` is the session of a client that ours follows. */
  async start(mountPoint: string, resume?: number, generation?: string): Promise<number> {
    const volume = this.#volume;
    if (volume.readOnly) return 0;
    this.#mountPoint = mountPoint;
    this.#began = volume.clock.now();
    this.#info = sessionText(mountPoint, this.#began, process.pid, generation);
    const sid = resume ?? (await volume.engine.newSessionId(volume.log.addCounter('nextSession', 1)[0]));
    // A session that is gone on with has the description of its former client.
    await this.#renew(sid, true);
    volume.sid = sid;
    return sid;
  }

  /** Says which credentials are in use from now on. */
  async describe(generation: string | undefined): Promise<void> {
    const { sid } = this.#volume;
    if (sid === 0) return;
    this.#info = sessionText(this.#mountPoint, this.#began, process.pid, generation);
    await this.#renew(sid, true);
  }

  async #renew(sid: number, replace = false): Promise<void> {
    const { clock, engine, log } = this.#volume;
    const lifetime = Math.ceil((this.#beat * MISSED_BEATS) / 1000);
    const expire = this.#seconds() + lifetime;
    await engine.putSession(sid, expire, this.#info, replace, replace ? log.newSession(sid, expire, this.#info) : undefined);
    const now = clock.monotonic();
    if (now - this.#renewed > lifetime * 1000) this.#thoughtDead = true;
    this.#renewed = now;
  }

  /** The time, which never goes back. */
  #seconds(): number {
    const at = this.#volume.clock.monotonic();
    const now = this.#volume.seconds();
    const wall = this.#wall;
    const passed = wall ? Math.floor((at - wall.at) / 1000) : 0;
    // Where our clock went back, time goes on by whole seconds of the monotonic one.
    if (!wall || now > wall.seconds + passed) this.#wall = { seconds: now, at };
    else if (passed > 0) this.#wall = { seconds: wall.seconds + passed, at: wall.at + passed * 1000 };
    return this.#wall?.seconds ?? now;
  }

  /** One heartbeat: renew, reload, and with `cleans` clean up after others. */
  async beat(cleans = true): Promise<void> {
    const volume = this.#volume;
    if (volume.sid > 0) await this.#renew(volume.sid);
    if (volume.sid > 0 && this.#thoughtDead) await volume.locks.verify();
    this.#thoughtDead = false;
    if (!(await this.reload())) return;
    if (volume.sid > 0 && cleans) await this.cleanStale();
  }

  /** Reads format, counters and quotas anew. False where this is not our volume any more. */
  async reload(): Promise<boolean> {
    if (!(await this.#reloadFormat())) return false;
    await Promise.all([this.#volume.stats.used(), this.#volume.limits.load()]);
    return true;
  }

  /** False where this is not our volume any more. */
  async #reloadFormat(): Promise<boolean> {
    const volume = this.#volume;
    const text = await volume.engine.readSetting();
    const lost = (reason: string): false => {
      volume.callbacks.lost?.(reason);
      return false;
    };
    if (text === undefined) return lost(`the volume ${volume.format.name} is gone from ${volume.engine.description}`);
    let format: Format;
    try {
      format = parseFormat(text);
    } catch (error) {
      volume.logger.warn('the format of the volume cannot be read any more', { error });
      return true;
    }
    if (format.uuid !== volume.format.uuid)
      return lost(`another volume was formatted at ${volume.engine.description} in place of ${volume.format.name}`);
    if (format.metaVersion > MAX_META_VERSION)
      return lost(`the volume ${format.name} was converted to metadata version ${format.metaVersion}`);
    if (serialiseFormat(format) === serialiseFormat(volume.format)) return true;
    volume.format = format;
    volume.callbacks.formatChanged?.();
    return true;
  }

  /** Cleans up after sessions that are over, if no other client does so now. */
  async cleanStale(): Promise<void> {
    const volume = this.#volume;
    if (this.#suspects.size === 0 && !(await claim(volume, 'lastCleanupSessions', (this.#beat * 0.9) / 1000))) return;
    for (const sid of await this.#stale()) {
      try {
        await this.#clean(sid);
        this.#suspects.delete(sid);
        volume.logger.info('cleaned up after a session that ended without doing so', { sid });
      } catch (error) {
        volume.logger.warn('a session that ended could not be cleaned up; it is tried again', { sid, error: messageOf(error) });
      }
    }
  }

  /** Sessions that are over by our clock and were not renewed while they were watched. */
  async #stale(): Promise<readonly number[]> {
    const volume = this.#volume;
    const before = this.#suspects;
    const sessions = await volume.engine.sessions();
    const now = volume.clock.monotonic();
    // Times are written in seconds: a renewal shows when the next one has begun, for which there is time.
    const watched = Math.max(this.#beat * WATCHED_BEATS, this.#beat + 2000);
    this.#suspects = new Map();
    const stale: number[] = [];
    for (const { sid, expire } of sessions) {
      const known = before.get(sid);
      if (known && known.expire !== expire) this.#tellOfClocks(sid, known.expire);
      if (expire >= volume.seconds() || sid === volume.sid || this.#suspects.size === STALE_PER_ROUND) continue;
      const suspect = known?.expire === expire ? known : { expire, since: now, seen: 0 };
      suspect.seen++;
      this.#suspects.set(sid, suspect);
      if (suspect.seen >= WATCHED_TIMES && now - suspect.since >= watched) stale.push(sid);
    }
    return stale;
  }

  #tellOfClocks(sid: number, expire: number): void {
    if (this.#toldOfClocks) return;
    this.#toldOfClocks = true;
    const { logger } = this.#volume;
    logger.warn('a session that is over by the clock of this machine was renewed: clocks differ, or its client was held up', {
      sid,
      seconds: this.#volume.seconds() - expire,
    });
  }

  async #clean(sid: number): Promise<void> {
    const { engine, log } = this.#volume;
    for (const ino of await engine.sustained(sid)) await deleteSustained(this.#volume, sid, ino);
    await engine.removeSession(sid, log.cleanSession(sid));
  }

  /** Releases everything this session holds. */
  async end(): Promise<void> {
    const { sid } = this.#volume;
    if (sid === 0) return;
    await this.#clean(sid);
    this.#volume.sid = 0;
  }

  async list(): Promise<readonly SessionInfo[]> {
    const sessions = await this.#volume.engine.sessions();
    return sessions.map(({ sid, expire, info }) => parseSession(sid, expire, info));
  }
}
