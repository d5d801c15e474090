/** A dump out of the object store of an encrypted volume, where it lies as every object does: sealed as a whole, so it is held as a whole. */
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { Readable, type Transform } from 'node:stream';
import { messageOf, UserError } from '../../lib/errors.ts';
import { type EncryptionOptions, openEnvelope } from '../../object/envelope.ts';

/** The bytes of the dump, decompressed as its name says. Throws UserError where the key is not the one. */
export async function* openSealed(path: string, read: () => Buffer, options: EncryptionOptions): AsyncGenerator<Uint8Array> {
  const envelope = openEnvelope(options);
  const sealed = read();
  let plain: Buffer;
  try {
    plain = await envelope.open(sealed, Buffer.allocUnsafeSlow(envelope.lengthOf(sealed)));
  } catch (cause) {
    throw new UserError('DumpDamaged', `${path} cannot be decrypted: ${messageOf(cause)}`, {
      cause,
      hint: 'Check that it is an object of a volume with this key and algorithm.',
    });
  }
  const decompress: Transform | undefined = path.endsWith('.gz')
    ? createGunzip()
    : /\.zstd?$/.test(path)
      ? createZstdDecompress()
      : undefined;
  if (!decompress) yield plain;
  else yield* Readable.from([plain]).pipe(decompress) as AsyncIterable<Uint8Array>;
}
