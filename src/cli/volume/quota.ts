/** `juicepod quota set|get|list|delete|check`: quotas of directories, users and groups, spelled as `juicefs quota` spells them. */
import { directoryOf } from '../../api/directory.ts';
import { UserError } from '../../lib/errors.ts';
import { formatBytes, parseSize } from '../../lib/units.ts';
import type { MetaEngine } from '../../meta/engine.ts';
import { openEngine } from '../../meta/open.ts';
import type { DirectoryModel } from '../../meta/paths.ts';
import {
  checkQuotas,
  getQuota,
  listQuotas,
  type Quota,
  type QuotaCheck,
  type QuotaOwner,
  removeQuota,
  setQuota,
} from '../../meta/quotas.ts';
import { wholeNumberOf } from '../options.ts';
import { columns, type Output, print } from '../report.ts';
import { COMMAND_PATIENCE_MS } from '../volume.ts';

export type QuotaAction = 'set' | 'get' | 'list' | 'delete' | 'check';

interface QuotaOptions {
  readonly path?: string;
  readonly uid?: string;
  readonly gid?: string;
  readonly capacity?: string;
  readonly inodes?: string;
  readonly create?: boolean;
  readonly owner?: string;
  readonly permissions?: string;
  readonly strict?: boolean;
  readonly repair?: boolean;
  readonly output: Output;
}

const MAX_ID = 0xffff_ffff;

/** Whose quota the options name; undefined where they name none. */
function ownerOf({ path, uid, gid }: QuotaOptions): QuotaOwner | undefined {
  const named = [path, uid, gid].filter((each) => each !== undefined);
  if (named.length > 1)
    throw new UserError('InvalidOption', '--path, --uid and --gid name three different quotas: give one of them');
  if (path !== undefined) return { kind: 'directory', path: normalised(path) };
  if (uid !== undefined) return { kind: 'user', uid: wholeNumberOf(uid, '--uid', 1, MAX_ID) };
  return gid === undefined ? undefined : { kind: 'group', gid: wholeNumberOf(gid, '--gid', 0, MAX_ID) };
}

const normalised = (path: string): string => `/${path.split('/').filter(Boolean).join('/')}`;

function required(owner: QuotaOwner | undefined): QuotaOwner {
  if (owner) return owner;
  throw new UserError('InvalidOption', 'say whose quota: --path DIRECTORY, --uid USER or --gid GROUP', {
    hint: 'A path begins at the root of the volume: --path /projects/a',
  });
}

/** `/projects/a`, `uid:1000`, `gid:100`. */
function nameOf(owner: QuotaOwner): string {
  if (owner.kind === 'directory') return owner.path;
  return owner.kind === 'user' ? `uid:${owner.uid}` : `gid:${owner.gid}`;
}

/** How a directory that is missing is made: not at all, for everybody to write into, or as `--owner` and `--permissions` say. */
function creationOf({ path, create, owner, permissions }: QuotaOptions): boolean | DirectoryModel {
  if (owner === undefined && permissions === undefined) return create ?? false;
  const fail = (what: string): never => {
    throw new UserError('InvalidOption', `--${what}`);
  };
  if (!create || path === undefined) fail('owner and --permissions are of the directory of --path that --create makes');
  return directoryOf({ owner, permissions, subPath: path ?? '', readOnly: false }, fail) ?? true;
}

const percent = (used: number, limit: number): string => (limit > 0 ? `${Math.floor((used * 100) / limit)}%` : '');

function quotaTable(quotas: readonly Quota[]): string {
  const rows = quotas.map(({ owner, capacity, inodes, usedBytes, usedInodes }) => {
    // A volume that lost count may have recorded less than nothing.
    const [bytes, files] = [Math.max(0, usedBytes), Math.max(0, usedInodes)];
    return [
      nameOf(owner),
      capacity > 0 ? formatBytes(capacity) : 'unlimited',
      formatBytes(bytes),
      percent(bytes, capacity),
      inodes > 0 ? String(inodes) : 'unlimited',
      String(files),
      percent(files, inodes),
    ];
  });
  return columns([['PATH/ID', 'SIZE', 'USED', 'USE%', 'INODES', 'IUSED', 'IUSE%'], ...rows]);
}

function checkTable(checks: readonly QuotaCheck[]): string {
  const rows = checks.map(({ owner, recorded, counted, consistent, repaired }) => [
    nameOf(owner),
    `${recorded.space} bytes, ${recorded.inodes} inodes`,
    `${counted.space} bytes, ${counted.inodes} inodes`,
    consistent ? 'consistent' : repaired ? 'repaired' : 'INCONSISTENT',
  ]);
  return columns([['PATH/ID', 'RECORDED', 'COUNTED', ''], ...rows]);
}

async function check(engine: MetaEngine, owner: QuotaOwner | undefined, options: QuotaOptions): Promise<void> {
  const { strict = false, repair = false, output } = options;
  const checks = await checkQuotas(engine, { ...(owner ? { owner } : {}), strict, repair });
  if (checks.length > 0 || output === 'json') print(output, checks, checkTable(checks));
  else print(output, checks, 'There are no quotas to check.');
  const wrong = checks.filter(({ consistent, repaired }) => !consistent && !repaired).length;
  if (wrong > 0)
    throw new UserError('QuotaInconsistent', `${wrong} of ${checks.length} quotas do not say what is there`, {
      hint: 'While clients write, the last seconds may be missing. Else correct them: juicepod quota check META-URL --repair',
    });
}

export async function quotaCommand(action: QuotaAction, url: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as QuotaOptions;
  const { output } = options;
  const owner = ownerOf(options);
  const readOnly = action === 'get' || action === 'list' || (action === 'check' && !options.repair);
  const capacity = options.capacity === undefined ? undefined : parseSize(options.capacity, '--capacity', 'G');
  const inodes = options.inodes === undefined ? undefined : wholeNumberOf(options.inodes, '--inodes', 0, Number.MAX_SAFE_INTEGER);
  if (action !== 'list' && action !== 'check') required(owner);
  if (action === 'set' && capacity === undefined && inodes === undefined)
    throw new UserError('InvalidOption', 'say how much: --capacity SIZE, --inodes COUNT or both; 0 is no limit');
  const create = creationOf(options);
  const engine = await openEngine(url, { existing: true, readOnly, patience: COMMAND_PATIENCE_MS });
  try {
    switch (action) {
      case 'set': {
        const limits = { ...(capacity === undefined ? {} : { capacity }), ...(inodes === undefined ? {} : { inodes }) };
        const quota = await setQuota(engine, required(owner), limits, { create, strict: options.strict ?? false }).catch(
          (error: unknown) => {
            if (!(error instanceof UserError) || error.code !== 'PathMissing') throw error;
            throw new UserError(error.code, error.message, { cause: error, hint: 'Make it with --create, or correct --path.' });
          },
        );
        return print(output, quota, quotaTable([quota]));
      }
      case 'get': {
        const quota = await getQuota(engine, required(owner));
        if (!quota) throw new UserError('NoQuota', `${nameOf(required(owner))} has no quota`);
        return print(output, quota, quotaTable([quota]));
      }
      case 'list': {
        const quotas = await listQuotas(engine);
        const found = owner ? quotas.filter((quota) => nameOf(quota.owner) === nameOf(owner)) : quotas;
        return print(output, found, found.length === 0 ? 'There are no quotas.' : quotaTable(found));
      }
      case 'delete': {
        const removed = required(owner);
        await removeQuota(engine, removed);
        return print(output, { owner: removed, removed: true }, `Removed the quota of ${nameOf(removed)}.`);
      }
      case 'check':
        return await check(engine, owner, options);
    }
  } finally {
    await engine.close();
  }
}
