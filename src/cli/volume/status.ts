/** `juicepod status`: the volume's settings, what is used, who has it mounted; spelled as `juicefs status` spells it. */
import { formatIno, type Ino } from '../../lib/int64.ts';
import { formatBytes } from '../../lib/units.ts';
import { redacted, serialiseFormat } from '../../meta/format.ts';
import type { MetaEngine } from '../../meta/engine.ts';
import { openEngine } from '../../meta/open.ts';
import { type Count, garbageOf, sessionDetails, sessionsOf, type StatusSession, useOf } from '../../meta/status.ts';
import { redactUrl } from '../../meta/url.ts';
import { endingSignal, wholeNumberOf } from '../options.ts';
import { showProgress } from '../progress.ts';
import { type Output, print, table } from '../report.ts';
import { COMMAND_PATIENCE_MS, formatOf } from '../volume.ts';

interface Options {
  readonly session?: string;
  readonly more?: boolean;
  readonly output: Output;
}

export async function statusCommand(url: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as Options;
  const sid = options.session === undefined ? undefined : wholeNumberOf(options.session, '--session', 1, Number.MAX_SAFE_INTEGER);
  const engine = await openEngine(url, { existing: true, readOnly: true, patience: COMMAND_PATIENCE_MS });
  try {
    await (sid === undefined ? showVolume(engine, url, options) : showSession(engine, url, sid, options.output));
  } finally {
    await engine.close();
  }
}

/** A number of up to 64 bits as JSON has it, to the last digit. */
const exactly = (number: bigint | string): unknown =>
  (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(String(number));
const inode = (ino: Ino): unknown => exactly(formatIno(ino));

const inJson = ({ sid, expire, info }: StatusSession) => ({ Sid: sid, Expire: new Date(expire * 1000).toISOString(), ...info });

/** A session on a line. */
function lineOf({ sid, expire, info }: StatusSession): string {
  const said = (name: string): string => {
    const value = info[name];
    return typeof value === 'string' || typeof value === 'number' ? String(value) : '?';
  };
  const gone = expire < Date.now() / 1000 ? ', expired' : '';
  return `  ${String(sid).padEnd(6)} ${said('HostName')}:${said('MountPoint')}  pid ${said('ProcessID')}, ${said('Version')}${gone}\n`;
}

async function showSession(engine: MetaEngine, url: string, sid: number, output: Output): Promise<void> {
  await formatOf(engine, url);
  const session = await sessionDetails(engine, sid);
  const { sustained, flocks, plocks } = session;
  const some = (name: string, list: readonly unknown[]): object => (list.length === 0 ? {} : { [name]: list });
  const names = ['read', 'write', 'none'];
  print(
    output,
    {
      ...inJson(session),
      ...some('Sustained', sustained.map(inode)),
      ...some(
        'Flocks',
        flocks.map(({ ino, owner, type }) => ({ Inode: inode(ino), Owner: exactly(owner), Ltype: type })),
      ),
      ...some(
        'Plocks',
        plocks.map(({ ino, owner, records }) => ({
          Inode: inode(ino),
          Owner: exactly(owner),
          Records: records.map(({ type, pid, start, end }) => ({
            Type: type,
            Pid: pid,
            Start: exactly(start),
            End: exactly(end),
          })),
        })),
      ),
    },
    [
      lineOf(session),
      ...sustained.map((ino) => `  removed and still open: inode ${formatIno(ino)}\n`),
      ...flocks.map(({ ino, type }) => `  flock: inode ${formatIno(ino)}, ${type === 'W' ? 'exclusive' : 'shared'}\n`),
      ...plocks.flatMap(({ ino, records }) =>
        records.map(
          ({ type, pid, start, end }) => `  fcntl: inode ${formatIno(ino)}, ${names[type]} ${start} to ${end}, pid ${pid}\n`,
        ),
      ),
    ].join(''),
  );
}

async function showVolume(engine: MetaEngine, url: string, { more = false, output }: Options): Promise<void> {
  const format = redacted(await formatOf(engine, url));
  const [use, sessions] = await Promise.all([useOf(engine, format), sessionsOf(engine)]);
  const progress = showProgress(() => (more ? 'looking through trash and deleted files …' : ''));
  const garbage = more ? await garbageOf(engine, endingSignal()).finally(() => progress.end()) : undefined;
  progress.end();
  const kept = garbage
    ? ([
        ['TrashFile', 'in the trash', garbage.trashFiles],
        ['PendingDeletedFile', 'removed, to be deleted', garbage.deletedFiles],
        ['TrashSlice', 'replaced by compaction, kept', garbage.trashSlices],
        ['PendingDeletedSlice', 'unused, to be deleted', garbage.deletedSlices],
      ] as const)
    : [];
  const counted = ({ count, size }: Count): string => `${count} (${formatBytes(size)})`;
  print(
    output,
    {
      Setting: JSON.parse(serialiseFormat(format)) as unknown,
      Sessions: sessions.map(inJson),
      Stat: {
        UsedSpace: use.usedSpace,
        AvailableSpace: use.availableSpace,
        UsedInodes: use.usedInodes,
        AvailableInodes: use.availableInodes,
        // Left out where they are 0, as there.
        ...Object.fromEntries(
          kept.flatMap(([name, , { count, size }]) => [
            ...(count === 0 ? [] : [[`${name}Count`, count] as const]),
            ...(size === 0 ? [] : [[`${name}Size`, size] as const]),
          ]),
        ),
      },
    },
    `${table([
      ['volume', format.name],
      ['uuid', format.uuid],
      ['metadata', redactUrl(url)],
      ['objects', `${format.storage} ${format.bucket}`],
      ...(format.encryptKey === '' ? [] : [['encrypted', format.encryptAlgo || 'aes256gcm-rsa'] as const]),
      ['used', `${formatBytes(use.usedSpace)} in ${use.usedInodes} files and directories`],
      ...(format.capacity === 0 ? [] : [['available', formatBytes(use.availableSpace)] as const]),
      ['trash', format.trashDays === 0 ? 'off' : `${format.trashDays} day${format.trashDays === 1 ? '' : 's'}`],
      ...kept.map(([, name, count]) => [name, counted(count)] as const),
    ])}sessions  ${sessions.length === 0 ? 'none' : ''}\n${sessions.map(lineOf).join('')}`,
  );
}
