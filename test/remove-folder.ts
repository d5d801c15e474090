import { rmSync } from 'node:fs';

/** Removes a folder (or nothing, where there is none) also while a program still adds to it: rmSync alone then says ENOTEMPTY at times. */
export const removeFolder = (path: string): void =>
  rmSync(path, { recursive: true, force: true, maxRetries: 20, retryDelay: 10 });
