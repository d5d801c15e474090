/** `juicepod destroy`: deletes a volume, all of it. */
import { createInterface } from 'node:readline/promises';
import { UserError } from '../../lib/errors.ts';
import { formatBytes } from '../../lib/units.ts';
import { activeSessions, destroyVolume, newDestroyReport } from '../../maintenance/destroy.ts';
import { redactUrl } from '../../meta/url.ts';
import { ObjectError } from '../../object/store.ts';
import { type OpenedVolume, withVolume } from './maintain.ts';
import { showProgress } from '../progress.ts';
import { type Output, print, table } from '../report.ts';

interface DestroyOptions {
  readonly force?: boolean;
  readonly yes?: boolean;
  readonly output: Output;
}

/** Sessions that are named. */
const NAMED = 5;

export async function destroyCommand(url: string, uuid: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const { force = false, yes = false, output } = raw as unknown as DestroyOptions;
  const report = newDestroyReport();
  const name = await withVolume(url, { writing: true }, async (opened) => {
    const { engine, format, objects, signal } = opened;
    if (format.uuid !== uuid)
      throw new UserError('OtherVolume', `${redactUrl(url)} holds the volume "${format.name}" with another UUID than ${uuid}`, {
        hint: `Its UUID is told by: juicepod status '${redactUrl(url)}'`,
      });
    if (!force) {
      await requireUnused(opened);
      if (!yes) await confirm(opened, url);
    }
    const line = showProgress(() =>
      report.phase === 'objects' ? `deleting objects: ${report.deleted}` : 'deleting the metadata',
    );
    try {
      await destroyVolume({ engine, objects, force, report, signal });
    } catch (error) {
      if (!(error instanceof ObjectError && error.code === 'NoSuchBucket')) throw error;
      throw new UserError('StorageNoSuchBucket', error.message, {
        cause: error,
        hint: 'If the bucket was deleted already, delete the metadata with --force.',
      });
    } finally {
      line.end();
    }
    return format.name;
  });
  const { deleted, failed } = report;
  print(
    output,
    { name, uuid, deleted, failed },
    `Destroyed the volume "${name}": ${deleted} objects and its metadata.${failed > 0 ? ` ${failed} objects could not be deleted.` : ''}`,
  );
}

async function requireUnused({ engine, volume, format }: OpenedVolume): Promise<void> {
  const sessions = await activeSessions(engine, volume.seconds());
  if (sessions.length === 0) return;
  const some = sessions.slice(0, NAMED).map(({ sid, hostName, mountPoint }) => `${hostName}:${mountPoint} (session ${sid})`);
  const more = sessions.length > NAMED ? ` and ${sessions.length - NAMED} more` : '';
  throw new UserError('VolumeInUse', `the volume "${format.name}" is mounted: ${some.join(', ')}${more}`, {
    hint: 'Unmount it there first. A client that died counts for a minute.',
  });
}

/** Asks on the terminal. Throws UserError `NotConfirmed`. */
async function confirm({ engine, format, objects, signal }: OpenedVolume, url: string): Promise<void> {
  const [bytes, inodes] = await engine.read([
    { kind: 'counter', name: 'usedSpace' },
    { kind: 'counter', name: 'totalInodes' },
  ]);
  const lost = `all of the volume "${format.name}" would be deleted for ever: ${inodes} files and directories of ${formatBytes(bytes)}`;
  const unasked = new UserError('NotConfirmed', lost, { hint: 'If that is meant, add --yes.' });
  if (!process.stdin.isTTY) throw unasked;
  process.stderr.write(
    table([
      ['volume', format.name],
      ['uuid', format.uuid],
      ['objects', `all below ${format.name}/ in ${objects.description}`],
      ['metadata', redactUrl(url)],
      ['used', `${formatBytes(bytes)} in ${inodes} files and directories`],
    ]),
  );
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  // On a terminal it takes Ctrl-C for itself.
  terminal.once('SIGINT', () => process.kill(process.pid, 'SIGINT'));
  try {
    const answer = await terminal.question('All of it will be deleted for ever. Type the name of the volume to go on: ', {
      signal,
    });
    if (answer.trim() !== format.name) throw new UserError('NotConfirmed', 'nothing was deleted');
  } finally {
    terminal.close();
  }
}
