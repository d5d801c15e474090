/**
 * Checks of a store before a volume is made in it: does it keep what it is given, and does it hold somebody's objects already.
 * Source: JuiceFS format, object storage side of `format`.
 */
import { type Random, systemRandom } from '../lib/random.ts';
import { ObjectError, type ObjectStore } from './store.ts';

/** The object that says whose blocks these are; holds the volume's UUID. */
export const MARKER = 'juicefs_uuid';
const TEST_BYTES = 100;

/** Makes the bucket where it is missing, then puts, gets, compares and deletes a test object. Throws ObjectError. */
export async function checkStore(store: ObjectStore, random: Random = systemRandom): Promise<void> {
  const key = `testing/${random.bytes(5).toString('hex')}`;
  const body = random.bytes(TEST_BYTES);
  try {
    await store.put(key, body);
  } catch (error) {
    if (!(error instanceof ObjectError) || (error.code !== 'NoSuchBucket' && error.code !== 'NotFound')) throw error;
    await store.create();
    await store.put(key, body);
  }
  const found = await store.get(key);
  if (!found.equals(body))
    throw new ObjectError(
      'Corrupt',
      `${store.description} gave back other bytes than it was given (${found.length} of ${TEST_BYTES})`,
    );
  await store.delete(key);
}

/** True for an object that is somebody's data: test objects, folders and empty objects do not count. */
export function isData(key: string, size: number): boolean {
  return !key.startsWith('testing') && !key.endsWith('/') && size > 0;
}

/** The key of the first object that is somebody's data, or undefined. */
export async function firstObject(store: ObjectStore): Promise<string | undefined> {
  for await (const { key, size } of store.list('')) if (isData(key, size)) return key;
  return undefined;
}
