import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import type { HandleJournal, OpenHandle } from '../fuse/types.ts';
import { type Ino, ino } from '../lib/int64.ts';
import { directoryHandle, fileHandle, Handles, type VirtualHandle } from './handles.ts';

function journal(): HandleJournal & { readonly kept: Map<number, OpenHandle> } {
  const kept = new Map<number, OpenHandle>();
  return {
    kept,
    add: (open) => (kept.set(open.handle, open), true),
    remove: (handle) => void kept.delete(handle),
    entries: () => [...kept.values()],
  };
}

const virtual = (number: Ino): VirtualHandle => ({ kind: 'virtual', ino: number, read: () => Buffer.alloc(0), close: () => {} });

test('any opening and closing, with deaths in between: a number names its handle and no other', () => {
  const step = fc.record({ kind: fc.constantFrom('file', 'directory', 'virtual', 'close', 'die'), pick: fc.nat() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const kept = journal();
      let handles = new Handles(kept);
      const model = new Map<number, { readonly kind: string; readonly ino: Ino }>();
      let next = 1;
      for (const { kind, pick } of steps) {
        if (kind === 'die') {
          // What was not noted goes with the process.
          handles = new Handles(kept);
          for (const [number, each] of model) if (each.kind === 'virtual') model.delete(number);
        } else if (kind === 'close') {
          const number = [...model.keys()][pick % Math.max(1, model.size)];
          if (number === undefined) continue;
          const each = model.get(number);
          model.delete(number);
          assert.equal(handles.remove(number, ino(999_999)), undefined, 'not for another inode');
          assert.equal(handles.remove(number, each?.ino ?? ino(0))?.kind, each?.kind);
          assert.equal(handles.remove(number, each?.ino ?? ino(0)), undefined);
        } else {
          const of = ino(kind === 'virtual' ? -next : next);
          next++;
          const handle = kind === 'file' ? fileHandle(of, 0x8002) : kind === 'directory' ? directoryHandle(of) : virtual(of);
          const number = handles.add(handle);
          assert.ok(number > 0 && !model.has(number), `${number} is free`);
          model.set(number, { kind, ino: of });
        }
        assert.equal(handles.count, model.size);
        for (const [number, each] of model) {
          const found = handles.get(number);
          assert.deepEqual([found?.kind, found?.ino], [each.kind, each.ino]);
          if (found?.kind === 'file') assert.equal(found.flags, 0x8002);
        }
        assert.equal([...handles.all()].length, model.size);
      }
    }),
  );
});
