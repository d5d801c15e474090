/**
 * Asks the client that serves a mount, juicepod or juicefs, through `.control` (src/vfs/control). Closing it, or the end of this
 * process, ends what the client does for it.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { errno, errnoName, UserError } from '../../lib/errors.ts';
import { type Answer, AnswerReader } from '../../vfs/control/protocol.ts';
import { type Found, shown } from './paths.ts';

/** The file of every JuiceFS mount has this inode. */
const CONTROL_INO = 0x7fff_ffff_0000_0002n;
/** With `--prefix-internal` the first. */
const NAMES = ['.jfs.control', '.control'];
const SHORTEST_PAUSE = 1;
const LONGEST_PAUSE = 300;
const READ_BYTES = 128 * 1024;

export class MountControl implements AsyncDisposable {
  readonly #file: FileHandle;
  readonly #signal: AbortSignal;

  private constructor(file: FileHandle, signal: AbortSignal) {
    this.#file = file;
    this.#signal = signal;
  }

  /** For a path of a mount. Throws UserError `NotMounted` where it lies in none. */
  static async open({ path, folder, stat }: Pick<Found, 'path' | 'folder' | 'stat'>, signal: AbortSignal): Promise<MountControl> {
    for (const name of NAMES) {
      let file: FileHandle;
      try {
        file = await open(Buffer.concat([folder, Buffer.from(`/${name}`)]), 'r+');
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'ENOENT' || code === 'ENOTDIR') continue;
        throw new UserError('ControlRefused', `${shown(path)}: its mount does not take commands: ${(error as Error).message}`);
      }
      const found = await file.stat({ bigint: true });
      if (found.ino === CONTROL_INO && found.dev === stat.dev) return new MountControl(file, signal);
      await file.close();
    }
    throw new UserError('NotMounted', `${shown(path)} does not lie in a mounted volume`, {
      hint: 'Give a path below a mount point of juicepod or juicefs.',
    });
  }

  /** Sends a request and waits for the end of its answer. Throws UserError `Interrupted`, or where the client went away. */
  async ask(request: Buffer, onProgress?: (first: number, second: number) => void): Promise<Answer> {
    await this.send(request);
    const reader = new AnswerReader(onProgress);
    const buffer = Buffer.alloc(READ_BYTES);
    for (let pause = SHORTEST_PAUSE; ;) {
      if (this.#signal.aborted) throw new UserError('Interrupted', 'interrupted; the client has stopped as well');
      const { bytesRead } = await this.#try(() => this.#file.read(buffer, 0, buffer.length, null));
      const answer = bytesRead > 0 ? reader.push(buffer.subarray(0, bytesRead)) : undefined;
      if (answer) return answer;
      pause = bytesRead > 0 ? SHORTEST_PAUSE : Math.min(LONGEST_PAUSE, pause * 2);
      await new Promise<void>((done) => {
        const timer = setTimeout(done, pause);
        this.#signal.addEventListener('abort', () => (clearTimeout(timer), done()), { once: true });
      });
    }
  }

  /** Sends a request whose answer nobody waits for. */
  async send(request: Buffer): Promise<void> {
    for (let sent = 0; sent < request.length;)
      sent += (await this.#try(() => this.#file.write(request, sent, request.length - sent, null))).bytesWritten;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }

  async #try<T>(action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EBADF' || code === 'ENOTCONN' || code === 'ECONNABORTED')
        throw new UserError('ClientRestarted', 'the client that serves this mount was restarted or has ended meanwhile', {
          hint: 'Run the command again; what was done stays done.',
          cause: error,
        });
      throw error;
    }
  }
}

const sentences: Readonly<Record<number, string>> = {
  [errno.ENOENT]: 'there is no such file or directory, or it was removed meanwhile',
  [errno.EPERM]: 'that is not allowed here (the trash, a virtual file, an immutable file, or an option for root alone)',
  [errno.EACCES]: 'permission denied',
  [errno.EROFS]: 'the volume is mounted read-only',
  [errno.EEXIST]: 'the name is taken',
  [errno.EDQUOT]: 'a quota has no room for it',
  [errno.ENOSPC]: 'the volume has no room for it',
  [errno.EINTR]: 'it was interrupted',
  [errno.EINVAL]: 'the client that serves this mount does not know the command',
  [errno.EIO]: 'the client failed to do it; its log says why',
  [errno.EAGAIN]: 'the client has too much to do already; try again later',
};

/** The failure that an errno of the client stands for. */
export function failure(path: Buffer, code: number): UserError {
  return new UserError('CommandFailed', `${shown(path)}: ${sentences[code] ?? `the client answered ${errnoName(code)}`}`);
}

/** The JSON of an answer; throws UserError where it is an errno. */
export function dataOf(path: Buffer, answer: Answer): unknown {
  if ('errno' in answer) throw failure(path, answer.errno);
  return answer.data;
}

/** Throws UserError where an answer is an errno other than 0. */
export function requireDone(path: Buffer, answer: Answer): void {
  if ('errno' in answer && answer.errno !== 0) throw failure(path, answer.errno);
}
