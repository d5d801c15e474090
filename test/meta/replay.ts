/**
 * A consumer of the change log: does what its entries say on a file system in memory. It knows nothing but the entries. What they do not say
 * is the device number of a special file, and whether a file that a rename replaced is kept while it is open: it is, until DELSUSTAINED.
 */
import assert from 'node:assert/strict';
import { type LogEntry, unescapeBytes } from '../../src/meta/changelog-text.ts';
import { CHUNK_SIZE, NodeType } from '../../src/meta/types.ts';
import { CELL, type ReferenceFs } from './reference-fs.ts';

const SECOND = 1_000_000_000n;
const EXCHANGE = 2;
const SETGID = 0o2000;

const text = (escaped = ''): string => unescapeBytes(escaped).toString('latin1');

export class Replayer {
  readonly #fs: Omit<ReferenceFs, 'keepsTrash'> & { keepsTrash: boolean };

  /** `fs` is as it was before the first entry. */
  constructor(fs: ReferenceFs) {
    this.#fs = fs;
  }

  apply({ sec, nsec, operation, args, result }: LogEntry): void {
    const fs = this.#fs;
    fs.now = BigInt(sec) * SECOND + BigInt(nsec);
    const number = (at: number): number => Number(args[at]);
    switch (operation) {
      case 'CREATE':
        if (number(0) > Number.MAX_SAFE_INTEGER) return;
        return this.#touching(number(0), args[9] === 'true', () => {
          const [parent, type] = [number(0), number(4) as NodeType];
          const inherited = type === NodeType.Directory ? fs.node(parent).mode & SETGID : 0;
          const mode = (number(5) & ~number(6)) | inherited;
          fs.add(parent, text(args[1]), Number(result), type, mode, { target: text(args[7]) });
        });
      case 'UNLINK':
        assert.equal(fs.find(number(0), text(args[1])), Number(result));
        if (args[3] === 'true') fs.open(Number(result));
        fs.keepsTrash = args[2] !== '0';
        return this.#touching(number(0), args[4] === 'true', () => fs.unlink(number(0), text(args[1])));
      case 'RMDIR':
        assert.equal(fs.find(number(0), text(args[1])), Number(result));
        fs.keepsTrash = args[2] !== '0';
        return fs.rmdir(number(0), text(args[1]));
      case 'MOVE': {
        assert.equal(fs.find(number(0), text(args[1])), Number(result));
        const replaced = fs.find(number(2), text(args[3]));
        assert.equal(replaced ?? 0, number(5));
        fs.keepsTrash = args[6] !== '0';
        const exchange = number(4) === EXCHANGE;
        const gone = replaced !== undefined && !exchange && !fs.keepsTrash && fs.isFile(replaced);
        if (gone && fs.node(replaced).nlink === 1) fs.open(replaced);
        return fs.rename(number(0), text(args[1]), number(2), text(args[3]), exchange);
      }
      case 'LINK':
        fs.link(number(0), number(1), text(args[2]));
        return assert.equal(fs.node(number(0)).nlink, Number(result));
      case 'SETATTR': {
        const node = fs.node(number(0));
        [node.uid, node.gid, node.mode] = [number(3), number(4), number(5)];
        node.mtime = BigInt(args[8] ?? '') * SECOND + BigInt(args[10] ?? '');
        node.ctime = BigInt(args[11] ?? '') * SECOND + BigInt(args[12] ?? '');
        return;
      }
      case 'WRITE': {
        const [chunk, pos, len] = [number(1), number(2), number(4)];
        const mtime = BigInt(args[5] ?? '') * SECOND + BigInt(args[6] ?? '');
        return fs.write(number(0), (chunk * CHUNK_SIZE + pos) / CELL, len / CELL, number(3), mtime);
      }
      case 'TRUNCATE':
        assert.equal(fs.length(fs.node(number(0))), number(1));
        return fs.truncate(number(0), number(2) / CELL);
      case 'FALLOCATE':
        return fs.fallocate(number(0), number(1) / CELL, number(2) / CELL, (number(3) & 1) === 0, number(3) > 1);
      case 'COPYFILERANGE':
        fs.copy(number(0), number(1) / CELL, number(2), number(3) / CELL, number(4) / CELL);
        return assert.equal(fs.length(fs.node(number(2))), Number(result));
      case 'COMPACTCHUNK': {
        const [pos, size] = [number(4), number(6)];
        if (size % CELL === 0 && pos % CELL === 0)
          fs.compacted(number(0), (number(1) * CHUNK_SIZE + pos) / CELL, size / CELL, number(5));
        return;
      }
      case 'SETXATTR':
        return void fs.node(number(0)).xattrs.set(text(args[1]), text(args[2]));
      case 'REMOVEXATTR':
        return void fs.node(number(0)).xattrs.delete(text(args[1]));
      case 'DELSUSTAINED':
        return fs.release(number(1));
      default:
        // Of names, attributes and contents they say nothing.
        assert.match(operation, /^(INCR_COUNTER|SET|NEWSESSION|CLEANSESSION|DELCHUNK|DELETESLICE|DIRSTAT)$/);
    }
  }

  /** Times of a directory stay as they are where the entry says so. */
  #touching(directory: number, touched: boolean, change: () => void): void {
    const node = this.#fs.node(directory);
    const { mtime, ctime } = node;
    change();
    if (!touched) Object.assign(node, { mtime, ctime });
  }
}
