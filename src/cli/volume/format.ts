/** `juicepod format`: makes a volume, or changes what may change of one that is there. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { UserError } from '../../lib/errors.ts';
import { systemRandom } from '../../lib/random.ts';
import { parseSize } from '../../lib/units.ts';
import { type Format, redacted, serialiseFormat } from '../../meta/format.ts';
import { envelopeOf } from '../../meta/encryption.ts';
import { changedFormat, type EncryptionInput, type FormatInput, newFormat } from '../../meta/format-input.ts';
import type { MetaEngine } from '../../meta/engine.ts';
import { formatVolume, openEngine } from '../../meta/open.ts';
import { changeSetting } from '../../meta/setting.ts';
import { redactUrl } from '../../meta/url.ts';
import { checkStore, firstObject, MARKER } from '../../object/check.ts';
import { encryptionAlgorithms } from '../../object/envelope.ts';
import { isPassphraseProtected } from '../../object/rsa-key.ts';
import { readText, wholeNumberOf } from '../options.ts';
import { type Output, print, table } from '../report.ts';
import { type ChangeLogOptions, changeLogSettingsOf } from './changelog-options.ts';
import { PASSPHRASE_VARIABLE } from '../mount/settings.ts';
import { storeError, storeOf } from '../store.ts';
import { COMMAND_PATIENCE_MS, plainFormat, storageOptions, type StorageOptions } from '../volume.ts';

interface FormatOptions extends StorageOptions, ChangeLogOptions {
  readonly blockSize: string;
  readonly compress: string;
  readonly trashDays?: string;
  readonly storageClass?: string;
  readonly hashPrefix?: boolean;
  readonly enableAcl?: boolean;
  readonly encryptRsaKey?: string;
  readonly encryptAlgo?: string;
  readonly update: boolean;
  readonly output: Output;
}

const BLOCK_DEFAULT = '4M';

/** Where blocks go when nobody says: JuiceFS's default folders. */
function defaultBucket(): string {
  return process.getuid?.() === 0 ? '/var/jfs' : join(homedir(), '.juicefs/local');
}

/** What is asked of a volume; a bucket that is not named is the default folder of a new one, and stays as it is else. */
export type VolumeInput = Omit<FormatInput, 'bucket'> & { readonly bucket?: string };

/** The volume after the call, secrets in plain text, and whether it was made now. */
export async function makeVolume(
  url: string,
  input: VolumeInput,
  update: boolean,
): Promise<{ readonly format: Format; readonly made: boolean }> {
  const engine = await openEngine(url, { patience: COMMAND_PATIENCE_MS });
  try {
    return await makeVolumeIn(engine, url, input, update);
  } finally {
    await engine.close();
  }
}

async function makeVolumeIn(
  engine: MetaEngine,
  url: string,
  input: VolumeInput,
  update: boolean,
): Promise<{ readonly format: Format; readonly made: boolean }> {
  const text = await engine.readSetting();
  if (text !== undefined) {
    const { after } = await changeSetting(engine, (found) => {
      if (found.name !== input.name)
        throw new UserError('OtherVolume', `${redactUrl(url)} holds the volume "${found.name}" already, not "${input.name}"`, {
          hint: 'Choose another database (the number behind the last / of a Redis URL, or another file).',
        });
      return update ? changedFormat(plainFormat(found), input, systemRandom) : found;
    });
    return { format: plainFormat(after), made: false };
  }
  const format = newFormat({ ...input, bucket: input.bucket ?? defaultBucket() }, systemRandom);
  const plain = plainFormat(format);
  const store = storeOf(plain, envelopeOf(plain, input.encryption?.passphrase));
  try {
    await checkStore(store);
    const other = await firstObject(store);
    if (other !== undefined)
      throw new UserError(
        'StorageInUse',
        `${store.description} holds objects already, the first is ${other}; a new volume there would write among them`,
        {
          hint: 'Choose another name or bucket. If these objects are a volume whose database is lost, restore the database instead.',
        },
      );
    if (!(await formatVolume(engine, format)))
      throw new UserError('FormattedMeanwhile', `${redactUrl(url)} was formatted by somebody else just now`, {
        hint: 'Look at it with juicepod status.',
      });
    await store.put(MARKER, Buffer.from(format.uuid));
  } catch (error) {
    throw storeError(error);
  } finally {
    await store.close();
  }
  return { format: plain, made: true };
}

/** What the options say of encryption; the passphrase is in the environment, as for the official client. */
function encryptionOf({ encryptRsaKey: path, encryptAlgo }: FormatOptions): EncryptionInput | undefined {
  const algorithm = encryptionAlgorithms.find((each) => each === encryptAlgo);
  if (encryptAlgo !== undefined && algorithm === undefined)
    throw new UserError('InvalidOption', `--encrypt-algo ${encryptAlgo}: wanted ${encryptionAlgorithms.join(' or ')}`);
  if (path === undefined) {
    if (algorithm === undefined) return undefined;
    throw new UserError('InvalidOption', '--encrypt-algo says how, but not with which key objects are to be encrypted', {
      hint: 'Name a private RSA key, too: --encrypt-rsa-key FILE',
    });
  }
  const passphrase = process.env[PASSPHRASE_VARIABLE];
  const key = readText(path, '--encrypt-rsa-key');
  return { key, ...(passphrase ? { passphrase } : {}), ...(algorithm ? { algorithm } : {}) };
}

/** One row for people: what objects are encrypted with, and whether their key is safe in the database. */
function encryptionRow(format: Format): readonly (readonly [string, string])[] {
  if (format.encryptKey === '') return [];
  const key = isPassphraseProtected(format.encryptKey)
    ? `mount with its passphrase in ${PASSPHRASE_VARIABLE}`
    : 'its key has no passphrase: whoever reads the metadata can read the objects (juicepod rotate-passphrase gives it one)';
  return [['encrypted', `${format.encryptAlgo}; ${key}`]];
}

export async function formatCommand(url: string, name: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as FormatOptions;
  const trashDays = options.trashDays === undefined ? undefined : wholeNumberOf(options.trashDays, '--trash-days', 0, 36_500);
  const encryption = encryptionOf(options);
  const given: Partial<FormatInput> = {
    ...storageOptions(options),
    ...(encryption ? { encryption } : {}),
    ...(options.blockSize === BLOCK_DEFAULT ? {} : { blockSize: parseSize(options.blockSize, '--block-size', 'K') / 1024 }),
    ...(options.compress === 'none' ? {} : { compression: options.compress }),
    ...(options.storageClass ? { storageClass: options.storageClass } : {}),
    ...(options.hashPrefix ? { hashPrefix: true } : {}),
    ...(options.enableAcl ? { enableAcl: true } : {}),
    ...(trashDays === undefined ? {} : { trashDays }),
    ...changeLogSettingsOf(options),
  };
  const { format, made } = await makeVolume(url, { name, ...given }, options.update);
  const shown = redacted(format);
  print(
    options.output,
    { made, format: JSON.parse(serialiseFormat(shown)) as unknown },
    `${made ? 'Made' : 'Found'} the volume "${format.name}".\n${table([
      ['uuid', format.uuid],
      ['metadata', redactUrl(url)],
      ['objects', `${format.storage} ${format.bucket}`],
      ['blocks', `${format.blockSize} KiB, compression ${format.compression || 'none'}`],
      ...encryptionRow(format),
      ['trash', format.trashDays === 0 ? 'off' : `${format.trashDays} day${format.trashDays === 1 ? '' : 's'}`],
    ])}\nMount it with:  juicepod mount '${redactUrl(url)}' /mnt/${format.name}`,
  );
}
