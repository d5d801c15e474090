/** Options of `mount` that change what the file system does, with the official client's names: declared, and read. */
import type { Command } from 'commander';
import type { Semantics } from '../../client/semantics.ts';
import { UserError } from '../../lib/errors.ts';
import { parseDuration, parseSize } from '../../lib/units.ts';
import { type AtimeMode, atimeModes } from '../../meta/atime.ts';
import type { Account } from '../../vfs/squash.ts';
import { wholeNumberOf } from '../options.ts';

const NOBODY = 65_534;
const LARGEST_ID = 0xffff_fffe;

interface SemanticsOptions {
  readonly atimeMode: string;
  readonly umask?: string;
  readonly rootSquash?: string;
  readonly allSquash?: string;
  readonly enableCap?: boolean;
  readonly enableSelinux?: boolean;
  readonly enableIoctl?: boolean;
  readonly readdirCache?: boolean;
  readonly openCache: string;
  readonly openCacheLimit: string;
  readonly skipDirMtime: string;
  readonly sortDir?: boolean;
  readonly fastStatfs?: boolean;
  readonly maxFuseIo: string;
}

/** Declares them. */
export function addSemantics(command: Command): Command {
  return command
    .option('--atime-mode <mode>', 'when reading changes access times: noatime, relatime or strictatime', 'noatime')
    .option('--umask <mode>', 'permissions that new files and directories do not get, octal (default: what each program says)')
    .option('--root-squash <uid:gid>', 'take root for another user; without numbers for nobody (65534:65534)')
    .option('--all-squash <uid:gid>', 'take every user for this one, whose permissions are then checked here')
    .option('--enable-cap', 'allow file capabilities (setcap), an extended attribute')
    .option('--enable-selinux', 'allow labels of SELinux, an extended attribute')
    .option('--enable-ioctl', 'allow chattr and lsattr: immutable (i), append only (a), removed without the trash (s)')
    .option('--readdir-cache', 'let the kernel keep listings until the times of a directory change')
    .option(
      '--open-cache <time>',
      'how long a file may be opened again without asking the database; others’ changes show so much later',
      '0s',
    )
    .option('--open-cache-limit <count>', 'closed files of which something is remembered', '10000')
    .option('--skip-dir-mtime <time>', 'leave the times of a directory where they would change by less', '0s')
    .option('--sort-dir', 'list directories of up to 100000 names in the order of names')
    .option('--fast-statfs', 'tell what is used and free as last seen, without asking the database')
    .option('--max-fuse-io <size>', 'largest request to read or write, 4K to 1M', '1M');
}

/** A user and a group in numbers, either may be left out; root is nobody. Throws UserError `InvalidOption`. */
function accountOf(text: string, option: string): Account {
  const [uid = '', gid = '', ...rest] = text.trim().split(':');
  const number = (part: string): number => {
    if (part === '') return NOBODY;
    if (!/^\d+$/.test(part) || Number(part) > LARGEST_ID || rest.length > 0)
      throw new UserError('InvalidOption', `${option}: wanted UID:GID in numbers, found ${JSON.stringify(text)}`, {
        hint: `For example: ${option} 1000:1000`,
      });
    if (Number(part) === 0)
      throw new UserError('InvalidOption', `${option}: nobody can be taken for root, found ${JSON.stringify(text)}`, {
        hint: 'Name another user and group, or leave them out for nobody.',
      });
    return Number(part);
  };
  return { uid: number(uid), gid: number(gid) };
}

function umaskOf(text: string): number {
  if (!/^0?[0-7]{1,3}$/.test(text))
    throw new UserError('InvalidOption', `--umask: wanted permissions in octal, found ${JSON.stringify(text)}`, {
      hint: 'For example: --umask 022',
    });
  return Number.parseInt(text, 8);
}

/** Reads them. Throws UserError naming the option. */
export function semanticsOf(raw: Readonly<Record<string, unknown>>): Semantics {
  const options = raw as unknown as SemanticsOptions;
  const { atimeMode, umask, rootSquash, allSquash } = options;
  if (!(atimeModes as readonly string[]).includes(atimeMode))
    throw new UserError('InvalidOption', `--atime-mode: wanted ${atimeModes.join(', ')}, found ${JSON.stringify(atimeMode)}`);
  const maxIo = parseSize(options.maxFuseIo, '--max-fuse-io');
  if (maxIo < 4096 || maxIo > 1 << 20)
    throw new UserError('InvalidOption', `--max-fuse-io: wanted 4K to 1M, found ${JSON.stringify(options.maxFuseIo)}`);
  // As with the official client, the stronger one counts.
  const squash =
    allSquash !== undefined
      ? { account: accountOf(allSquash, '--all-squash'), everybody: true }
      : rootSquash !== undefined
        ? { account: accountOf(rootSquash, '--root-squash'), everybody: false }
        : undefined;
  return {
    atimeMode: atimeMode as AtimeMode,
    ...(umask === undefined ? {} : { umask: umaskOf(umask) }),
    ...(squash ? { squash } : {}),
    capabilities: options.enableCap === true,
    selinux: options.enableSelinux === true,
    ioctl: options.enableIoctl === true,
    readdirCache: options.readdirCache === true,
    openCacheMs: parseDuration(options.openCache, '--open-cache'),
    openCacheLimit: wholeNumberOf(options.openCacheLimit, '--open-cache-limit', 0, 10_000_000),
    skipDirMtimeMs: parseDuration(options.skipDirMtime, '--skip-dir-mtime'),
    sortDir: options.sortDir === true,
    fastStatfs: options.fastStatfs === true,
    maxIo: Math.floor(maxIo / 4096) * 4096,
  };
}
