/**
 * Lines out of a stream of bytes, for watches: one JSON document per line.
 *
 * Invariant: what is held is at most one line of `maxBytes`, or one chunk of the stream. A last line without its newline is not
 * yielded: the connection broke inside it, and the resource version of the line before says where to go on.
 */

/** An object is at most 1.5 MiB in etcd; JSON with managed fields stays well below this. */
const MAX_LINE_BYTES = 32 << 20;

const NEWLINE = 10;

/** Yields each complete line, decoded. Throws RangeError for a line over `maxBytes`. */
export async function* lines(
  stream: AsyncIterable<Uint8Array>,
  maxBytes: number = MAX_LINE_BYTES,
): AsyncGenerator<string, void, undefined> {
  let parts: Buffer[] = [];
  let held = 0;
  for await (const each of stream) {
    const chunk = Buffer.from(each.buffer, each.byteOffset, each.byteLength);
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      if (held + end - start > maxBytes) throw tooLong(maxBytes);
      const line =
        held === 0 ? chunk.toString('utf8', start, end) : Buffer.concat([...parts, chunk.subarray(start, end)]).toString('utf8');
      parts = [];
      held = 0;
      start = end + 1;
      if (line.trim() !== '') yield line;
    }
    if (start < chunk.length) {
      const rest = chunk.subarray(start);
      held += rest.length;
      if (held > maxBytes) throw tooLong(maxBytes);
      parts.push(rest);
    }
  }
}

function tooLong(maxBytes: number): RangeError {
  return new RangeError(`a line of the watch is longer than ${maxBytes} bytes: this is no answer of a Kubernetes API server`);
}
