/**
 * One volume, mounted at once by the official client and by us. The kernel's lifetimes of attributes and names are nought on both
 * sides unless asked for otherwise: what one side has closed, the other sees at once.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EncryptionAlgorithm } from '../../src/object/envelope.ts';
import { clearMounts, juicepod, type Mounted, startMount } from '../mounted.ts';
import { type EngineName, startDatabase, startS3 } from '../servers.ts';
import { mountOfficial, type OfficialMount, run } from './official.ts';

export const VOLUME = 'both';
export type { EngineName } from '../servers.ts';
export type Compression = 'none' | 'lz4' | 'zstd';
export type ClientName = 'official' | 'ours';

export interface PairOptions {
  readonly engine: EngineName;
  /** Where the volume goes, and a second place, both empty. @default a server of its own */
  readonly database?: { readonly url: string; readonly spareUrl: string };
  /** @default none */
  readonly compression?: Compression;
  /** Who formats. @default ours */
  readonly formattedBy?: ClientName;
  /** @default 0 */
  readonly trashDays?: number;
  /** KiB. @default 4096 */
  readonly blockSize?: number;
  /** @default file */
  readonly storage?: 'file' | 's3';
  readonly hashPrefix?: boolean;
  /** The volume has access control lists. */
  readonly acl?: boolean;
  /** Algorithm, and PEM file of the key; its passphrase is in this process's JFS_RSA_PASSPHRASE, for both clients. */
  readonly encryption?: { readonly algorithm: EncryptionAlgorithm; readonly key: string };
  /** The kernel's lifetimes are left as they are by default: a second. */
  readonly defaultLifetimes?: boolean;
  readonly mountOurs?: readonly string[];
  readonly mountOfficial?: readonly string[];
  /** How many directories each cache is in: `1`, `2`, … in its folder. Absent: the folder itself. */
  readonly cacheDirectories?: number;
  /** Both use one folder for their caches. */
  readonly sharedCache?: boolean;
}

export interface Pair extends AsyncDisposable {
  readonly url: string;
  /** Where the volume's objects lie, with their names as files; of S3 too (the gateway's folder). */
  readonly objects: string;
  readonly work: string;
  readonly official: string;
  readonly ours: string;
  /** A second metadata URL, with nothing in it. */
  readonly spareUrl: string;
  folder(client: ClientName): string;
  cache(client: ClientName): string;
  unmount(client: ClientName): Promise<void>;
  mount(client: ClientName): Promise<void>;
}

export const otherClient = (client: ClientName): ClientName => (client === 'ours' ? 'official' : 'ours');

const NO_LIFETIMES = ['--attr-cache', '0', '--entry-cache', '0', '--dir-entry-cache', '0'];

/** Formats a volume and mounts it twice. All of it is removed with the answer. */
export async function openPair(options: PairOptions): Promise<Pair> {
  const { engine, compression = 'none', formattedBy = 'ours', trashDays = 0, blockSize = 4096, storage = 'file' } = options;
  const work = mkdtempSync(join(tmpdir(), 'juicepod-pair-'));
  const stack = new AsyncDisposableStack();
  stack.defer(() => rmSync(work, { recursive: true, force: true }));
  stack.defer(() => clearMounts(work));
  try {
    const { url, spareUrl } = options.database ?? stack.use(await startDatabase(engine, work));
    const s3 = storage === 's3' ? stack.use(await startS3()) : undefined;
    s3?.createBucket('bucket');
    const bucket = s3 ? `${s3.endpoint}/bucket` : join(work, 'store');
    const objects = join(s3 ? join(s3.folder, 'bucket') : bucket, VOLUME);
    const keys = s3 ? ['--access-key', s3.accessKey, '--secret-key', s3.secretKey] : [];
    const where = ['--storage', storage, '--bucket', bucket, ...keys];
    const how = ['--compress', compression, '--trash-days', String(trashDays), '--block-size', `${blockSize}K`];
    if (options.hashPrefix) how.push('--hash-prefix');
    if (options.acl) how.push('--enable-acl');
    if (options.encryption) how.push('--encrypt-algo', options.encryption.algorithm, '--encrypt-rsa-key', options.encryption.key);
    const args = ['format', url, VOLUME, ...where, ...how];
    await (formattedBy === 'ours' ? juicepod(args) : run(args));

    const folders = { official: join(work, 'official'), ours: join(work, 'ours') };
    const caches = options.sharedCache
      ? { official: join(work, 'cache'), ours: join(work, 'cache') }
      : { official: join(work, 'cache-official'), ours: join(work, 'cache-ours') };
    const directories = (folder: string): string =>
      Array.from({ length: options.cacheDirectories ?? 0 }, (_, at) => join(folder, String(at + 1))).join(':') || folder;
    const lifetimes = options.defaultLifetimes ? [] : NO_LIFETIMES;
    const common = ['--enable-xattr', '--free-space-ratio', '0.01', ...lifetimes];
    const mounts: { official?: OfficialMount; ours?: Mounted } = {};
    const mount = async (client: ClientName): Promise<void> => {
      if (client === 'official') {
        const more = ['--cache-dir', directories(caches.official), ...common, ...(options.mountOfficial ?? [])];
        mounts.official = await mountOfficial(url, folders.official, more);
      } else {
        // The later of two --cache-dir counts.
        const more = ['--cache-dir', directories(caches.ours), ...common, ...(options.mountOurs ?? [])];
        mounts.ours = await startMount(url, folders.ours, work, { mount: more });
      }
    };
    stack.defer(async () => {
      await Promise.all([mounts.ours?.[Symbol.asyncDispose](), mounts.official?.[Symbol.asyncDispose]()]);
    });
    await Promise.all([mount('official'), mount('ours')]);
    const held = stack.move();
    return {
      url,
      objects,
      work,
      official: folders.official,
      ours: folders.ours,
      spareUrl,
      folder: (client) => folders[client],
      cache: (client) => caches[client],
      mount,
      async unmount(client) {
        await mounts[client]?.unmount();
      },
      [Symbol.asyncDispose]: () => held.disposeAsync(),
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}
