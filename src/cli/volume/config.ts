/**
 * `juicepod config`: shows the settings of a volume, or changes those that are given. Mounted clients take a change over with
 * their next heartbeat.
 */
import { UserError } from '../../lib/errors.ts';
import { systemRandom } from '../../lib/random.ts';
import { formatBytes, parseSize } from '../../lib/units.ts';
import type { MetaEngine } from '../../meta/engine.ts';
import { checkVersion, type Format, jsonName, redacted, serialiseFormat } from '../../meta/format.ts';
import { aclSettings, changedFormat, logSettings } from '../../meta/format-input.ts';
import { openEngine } from '../../meta/open.ts';
import { countOwners, listQuotas } from '../../meta/quotas.ts';
import { changeSetting } from '../../meta/setting.ts';
import { checkStore } from '../../object/check.ts';
import { booleanOf, wholeNumberOf } from '../options.ts';
import { type Output, print } from '../report.ts';
import { storeError, storeOf } from '../store.ts';
import { COMMAND_PATIENCE_MS, formatOf, plainFormat, type StorageOptions } from '../volume.ts';
import { type ChangeLogOptions, type ChangeLogSettings, changeLogSettingsOf } from './changelog-options.ts';

interface ConfigOptions extends StorageOptions, ChangeLogOptions {
  readonly capacity?: string;
  readonly inodes?: string;
  readonly trashDays?: string;
  readonly uploadLimit?: string;
  readonly downloadLimit?: string;
  readonly dirStats?: string | boolean;
  readonly userGroupQuota?: string | boolean;
  readonly enableAcl?: boolean;
  readonly minClientVersion?: string;
  readonly maxClientVersion?: string;
  readonly yes?: boolean;
  readonly force?: boolean;
  readonly output: Output;
}

type Changes = Partial<
  Pick<
    Format,
    | 'capacity'
    | 'inodes'
    | 'trashDays'
    | 'uploadLimit'
    | 'downloadLimit'
    | 'dirStats'
    | 'userGroupQuota'
    | 'enableAcl'
    | 'minClientVersion'
    | 'maxClientVersion'
    | keyof ChangeLogSettings
  >
>;

const MAX_TRASH_DAYS = 36_500;
const mbpsUnits: Readonly<Record<string, number>> = { M: 1, G: 1e3, T: 1e6, P: 1e9 };

/** Mbit/s of `200`, `200M` or `1.5G` (powers of 1000), rounded down; 0 is no limit. */
export function parseMbps(text: string, option: string): number {
  const match = /^(\d+(?:\.\d+)?)([MGTP])?$/i.exec(text.trim());
  const value = match && Math.floor(Number(match[1]) * (mbpsUnits[(match[2] ?? 'M').toUpperCase()] ?? 1));
  if (!match || !Number.isSafeInteger(value))
    throw new UserError(
      'InvalidRate',
      `${option}: wanted megabits per second such as 200 or 1.5G, found ${JSON.stringify(text)}`,
    );
  return value as number;
}

function versionOf(text: string, option: string): string {
  if (text === '' || /^\d+(\.\d+){0,2}(-[^+]*)?(\+.*)?$/.test(text)) return text;
  throw new UserError('InvalidOption', `${option}: wanted a version such as 1.2.0, found ${JSON.stringify(text)}`);
}

function changesOf(options: ConfigOptions): Changes {
  const { capacity, inodes, trashDays, uploadLimit, downloadLimit, dirStats, userGroupQuota } = options;
  const { minClientVersion, maxClientVersion } = options;
  const max = Number.MAX_SAFE_INTEGER;
  return {
    ...(capacity === undefined ? {} : { capacity: parseSize(capacity, '--capacity', 'G') }),
    ...(inodes === undefined ? {} : { inodes: wholeNumberOf(inodes, '--inodes', 0, max) }),
    ...(trashDays === undefined ? {} : { trashDays: wholeNumberOf(trashDays, '--trash-days', 0, MAX_TRASH_DAYS) }),
    ...(uploadLimit === undefined ? {} : { uploadLimit: parseMbps(uploadLimit, '--upload-limit') }),
    ...(downloadLimit === undefined ? {} : { downloadLimit: parseMbps(downloadLimit, '--download-limit') }),
    ...(dirStats === undefined ? {} : { dirStats: booleanOf(dirStats, '--dir-stats') }),
    ...(userGroupQuota === undefined ? {} : { userGroupQuota: booleanOf(userGroupQuota, '--user-group-quota') }),
    ...(options.enableAcl ? { enableAcl: true } : {}),
    ...changeLogSettingsOf(options),
    ...(minClientVersion === undefined ? {} : { minClientVersion: versionOf(minClientVersion, '--min-client-version') }),
    ...(maxClientVersion === undefined ? {} : { maxClientVersion: versionOf(maxClientVersion, '--max-client-version') }),
  };
}

function storageOf({ storage, bucket, accessKey, secretKey, sessionToken }: ConfigOptions): Partial<Required<StorageOptions>> {
  return {
    ...(storage === undefined ? {} : { storage }),
    ...(bucket === undefined ? {} : { bucket }),
    ...(accessKey === undefined ? {} : { accessKey }),
    ...(secretKey === undefined ? {} : { secretKey }),
    ...(sessionToken === undefined ? {} : { sessionToken }),
  };
}

/** The format with these changes; the same object where they change nothing. */
function changed(found: Format, changes: Changes, storage: Partial<Required<StorageOptions>>): Format {
  const moved = Object.keys(storage).length === 0 ? found : changedFormat(plainFormat(found), storage, systemRandom);
  const all = { ...changes, ...logSettings(moved, changes) };
  const next = { ...moved, ...(changes.enableAcl ? aclSettings(moved) : {}), ...all };
  const same = serialiseFormat({ ...plainOf(next, storage), ...all }) === serialiseFormat(plainOf(found, storage));
  return same ? found : next;
}

/** Secrets are encrypted anew each time, so they are compared in plain text; only where they may have changed. */
const plainOf = (format: Format, storage: object): Format => (Object.keys(storage).length === 0 ? format : plainFormat(format));

/** Throws what an administrator should think about first, where `--yes` was not given. */
async function requireConsent(engine: MetaEngine, before: Format, after: Format): Promise<void> {
  const hint = 'If that is meant, add --yes.';
  const [bytes, inodes] = await engine.read([
    { kind: 'counter', name: 'usedSpace' },
    { kind: 'counter', name: 'totalInodes' },
  ]);
  if (after.capacity !== before.capacity && after.capacity > 0 && bytes >= after.capacity)
    throw new UserError(
      'QuotaTooSmall',
      `the volume holds ${formatBytes(bytes)} already; with a capacity of ${formatBytes(after.capacity)} nothing more can be written`,
      { hint },
    );
  if (after.inodes !== before.inodes && after.inodes > 0 && inodes >= after.inodes)
    throw new UserError(
      'QuotaTooSmall',
      `the volume holds ${inodes} files and directories already; with ${after.inodes} inodes no more can be made`,
      { hint },
    );
  if (before.trashDays > 0 && after.trashDays === 0)
    throw new UserError('TrashOff', 'without trash days the trash is emptied, and removed files are gone at once', { hint });
  if (after.minClientVersion !== before.minClientVersion || after.maxClientVersion !== before.maxClientVersion) {
    try {
      checkVersion(after);
    } catch (cause) {
      throw new UserError('ClientVersionRefused', 'this client itself could not mount the volume any more', { hint, cause });
    }
  }
}

/** What changed, one line each; secrets are not shown. */
function report(before: Format, after: Format): { readonly json: object; readonly text: string } {
  const [old, now] = [redacted(before), redacted(after)];
  const names = (Object.keys(now) as (keyof Format)[]).filter(
    (name) => name !== 'unknown' && JSON.stringify(before[name]) !== JSON.stringify(after[name]),
  );
  const shown = (name: keyof Format, value: unknown): string => {
    if (name === 'capacity') return value === 0 ? 'unlimited' : formatBytes(value as number);
    if (name === 'uploadLimit' || name === 'downloadLimit') return value === 0 ? 'unlimited' : `${String(value)} Mbit/s`;
    if ((name === 'inodes' || name === 'changeLogMaxLines') && value === 0) return 'unlimited';
    if (name === 'changeLogMaxAge') return value === 0 ? 'for ever' : `${String(value)} s`;
    return JSON.stringify(value);
  };
  const secrets = new Set<keyof Format>(['secretKey', 'sessionToken', 'encryptKey']);
  const text = names.map((name) => {
    const field = jsonName(name as Exclude<keyof Format, 'unknown'>);
    return `${field}: ${secrets.has(name) ? 'updated' : `${shown(name, old[name])} -> ${shown(name, now[name])}`}\n`;
  });
  return {
    json: { changed: names.map((name) => jsonName(name as Exclude<keyof Format, 'unknown'>)), format: settingOf(after) },
    text: text.length === 0 ? 'Nothing is to be changed.' : text.join(''),
  };
}

const settingOf = (format: Format): unknown => JSON.parse(serialiseFormat(redacted(format)));

export async function configCommand(url: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as ConfigOptions;
  const { output, yes = false, force = false } = options;
  const changes = changesOf(options);
  const storage = storageOf(options);
  const asks = Object.keys(changes).length + Object.keys(storage).length === 0;
  const engine = await openEngine(url, { existing: true, readOnly: asks, patience: COMMAND_PATIENCE_MS });
  try {
    const found = await formatOf(engine, url);
    if (asks) {
      const setting = settingOf(found);
      return print(output, setting, JSON.stringify(setting, undefined, 2));
    }
    const wanted = changed(found, changes, storage);
    if (!yes && !force) await requireConsent(engine, found, wanted);
    if (found.dirStats && !wanted.dirStats) {
      const left = (await listQuotas(engine)).filter(({ owner }) => owner.kind === 'directory').length;
      if (left > 0)
        throw new UserError(
          'QuotasNeedStats',
          `there ${left === 1 ? 'is a quota' : `are ${left} quotas`} of directories, which need their statistics`,
          {
            hint: 'Delete them first: juicepod quota list, juicepod quota delete --path PATH.',
          },
        );
    }
    if (wanted !== found && Object.keys(storage).length > 0 && !force) {
      try {
        await checkStore(storeOf(plainFormat(wanted)));
      } catch (error) {
        throw storeError(error);
      }
    }
    const { before, after } = await changeSetting(engine, (format) => changed(format, changes, storage));
    if (after.userGroupQuota && !before.userGroupQuota) await countOwners(engine);
    const { json, text } = report(before, after);
    print(output, json, text);
  } finally {
    await engine.close();
  }
}
