/** Writing all of a buffer at a place of a file: one call of the system may take a part only. */
import type { FileHandle } from 'node:fs/promises';

/** Writes `length` bytes of `data` (from `from`) at `position` of the file. Fails with the system's error; a part may be written then. */
export async function writeFully(
  file: Pick<FileHandle, 'write'>,
  data: Uint8Array,
  position: number,
  from = 0,
  length = data.length - from,
): Promise<void> {
  for (let done = 0; done < length;) done += (await file.write(data, from + done, length - done, position + done)).bytesWritten;
}
