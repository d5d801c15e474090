/**
 * The virtual files of a mount: `.accesslog`, `.stats` and `.config` in its root, `.control` in every directory. They live in no database; their inodes are in a
 * window that no file can have. Source: JuiceFS format, virtual files.
 */
import { type Ino, VIRTUAL_INO } from '../lib/int64.ts';
import { type Attr, type DirEntry, NodeType } from '../meta/types.ts';
import type { AccessLog } from './accesslog.ts';
import type { Control } from './control/channel.ts';
import type { VirtualHandle } from './handles.ts';

const CONTROL = '.control';
/**
 * Of the files that hold a text. sendfile(2), with which some programs copy (busybox cat), reads nothing beyond the length that the kernel
 * was told; a shorter answer then tells it where the end is. A multiple of the page size, as in sysfs: programs know that
 * such files may hold less.
 */
const TEXT_LENGTH = 65_536;
/** Names and attributes do not change, seconds. */
const LIFETIME = 3600;

export interface VirtualFile {
  readonly name: string;
  readonly ino: Ino;
  readonly mode: number;
  /** What it is said to hold, bytes. @default 0 */
  readonly length?: number;
  open(): VirtualHandle;
}

function fixed(ino: Ino, content: () => string): VirtualHandle {
  // The text of the moment of opening: reads of one handle fit together.
  const text = Buffer.from(content());
  return { kind: 'virtual', ino, read: (offset, size) => text.subarray(offset, offset + size), close: () => {} };
}

/** The files, by name and by inode. */
export class VirtualFiles {
  readonly #byName: ReadonlyMap<string, VirtualFile>;
  readonly #byIno: ReadonlyMap<Ino, VirtualFile>;
  readonly #time: number;

  constructor(log: AccessLog, stats: () => string, config: () => unknown, control: Control) {
    const at = (offset: number): Ino => (VIRTUAL_INO + offset) as Ino;
    const files: VirtualFile[] = [
      {
        name: '.accesslog',
        ino: at(1),
        mode: 0o400,
        open: () => {
          const reader = log.open();
          return {
            kind: 'virtual',
            ino: at(1),
            read: (_offset, size, signal) => reader.read(size, signal),
            close: () => reader.close(),
          };
        },
      },
      {
        name: '.stats',
        ino: at(3),
        mode: 0o444,
        length: TEXT_LENGTH,
        open: () => fixed(at(3), stats),
      },
      { name: CONTROL, ino: at(2), mode: 0o666, open: () => control.open(at(2)) },
      {
        name: '.config',
        ino: at(4),
        mode: 0o400,
        length: TEXT_LENGTH,
        open: () => fixed(at(4), () => JSON.stringify(config(), undefined, 1)),
      },
    ];
    this.#byName = new Map(files.map((file) => [file.name, file]));
    this.#byIno = new Map(files.map((file) => [file.ino, file]));
    this.#time = Math.floor(Date.now() / 1000);
  }

  /** The virtual file of this name; only `.control` is known outside of the root. */
  named(name: Buffer, inRoot: boolean): VirtualFile | undefined {
    // 0x2e is the dot: ordinary names are told apart without making a string.
    if (name[0] !== 0x2e) return undefined;
    const text = name.toString();
    return inRoot || text === CONTROL ? this.#byName.get(text) : undefined;
  }

  get(ino: Ino): VirtualFile | undefined {
    return ino < 0 ? this.#byIno.get(ino) : undefined;
  }

  /** How long the kernel may trust name and attributes; not at all where reading has shown it a shorter length. */
  lifetime(file: VirtualFile): number {
    return file.length === undefined ? LIFETIME : 0;
  }

  attr(file: VirtualFile): Attr {
    const time = this.#time;
    const uid = process.getuid?.() ?? 0;
    const gid = process.getgid?.() ?? 0;
    return {
      flags: 0,
      type: NodeType.File,
      mode: file.mode,
      uid,
      gid,
      atime: time,
      atimensec: 0,
      mtime: time,
      mtimensec: 0,
      ctime: time,
      ctimensec: 0,
      nlink: 1,
      length: file.length ?? 0,
      rdev: 0,
      parent: 1 as Ino,
      accessAcl: 0,
      defaultAcl: 0,
      tier: 0,
    };
  }

  entries(): DirEntry[] {
    return [...this.#byName.values()]
      .filter(({ name }) => name !== CONTROL)
      .map((file) => ({
        name: Buffer.from(file.name),
        ino: file.ino,
        type: NodeType.File,
        attr: this.attr(file),
      }));
  }
}
