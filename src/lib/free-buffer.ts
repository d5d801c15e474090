/**
 * Gives the memory of a buffer back now. V8 would do so when it next collects, and is in no hurry with what is not in its heap: buffers
 * of many MiB gather. The buffer and all views of it are empty afterwards; nobody may be reading or filling it.
 */
export function freeBuffer(buffer: Buffer): void {
  const whole = buffer.buffer;
  // One of Node's small ones is a part of a buffer that others use.
  if (whole instanceof ArrayBuffer && whole.byteLength === buffer.length) whole.transfer(0);
}
