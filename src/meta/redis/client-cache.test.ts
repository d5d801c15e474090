import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import type { Clock } from '../../lib/clock.ts';
import { ino } from '../../lib/int64.ts';
import { bareDirectory } from '../bare-directory.ts';
import { NodeType } from '../types.ts';
import { ClientCache, NO_TICKET } from './client-cache.ts';

const state = { now: 0 };
const clock = { monotonic: () => state.now } as Clock;
const attr = (version: number) => bareDirectory(version, { sec: 0, nsec: 0 });
const name = Buffer.from('name');

/** A server whose news and answers arrive when the steps say so, each in its own order. */
type Step =
  { readonly do: 'change' | 'read' | 'own'; readonly key: number } | { readonly do: 'news' | 'answer' | 'reconnect' | 'look' };

const key = fc.nat({ max: 3 });
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constantFrom('change', 'read', 'own'), key }),
  fc.record({ do: fc.constantFrom('news', 'answer', 'reconnect', 'look') }),
);

test('whatever order news and answers arrive in, nothing is known that the news so far have contradicted', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const cache = new ClientCache({ clock, size: 3, expire: 1000 });
      cache.listen(true);
      const versions = [0, 0, 0, 0];
      const news: number[] = [];
      const answers: { readonly ticket: number; readonly key: number; readonly version: number }[] = [];
      const arrive = (): void => {
        const changed = news.shift();
        if (changed !== undefined) cache.changed(`i${changed}`);
      };
      for (const each of steps) {
        if (each.do === 'change') {
          versions[each.key] = (versions[each.key] ?? 0) + 1;
          news.push(each.key);
        } else if (each.do === 'own') {
          // Our own change: told at once when it is answered, and later by the news again.
          versions[each.key] = (versions[each.key] ?? 0) + 1;
          news.push(each.key);
          cache.changed(`i${each.key}`);
        } else if (each.do === 'read') answers.push({ ticket: cache.begin(), key: each.key, version: versions[each.key] ?? 0 });
        else if (each.do === 'news') arrive();
        else if (each.do === 'answer') {
          const answer = answers.shift();
          if (!answer) continue;
          cache.keepNode(answer.ticket, `i${answer.key}`, attr(answer.version));
          cache.keepEntry(answer.ticket, `d${answer.key}`, name, { type: NodeType.File, ino: ino(answer.version) });
          cache.end(answer.ticket);
        } else if (each.do === 'reconnect') {
          // News that were on their way are lost with the connection.
          cache.listen(false);
          news.length = 0;
          cache.listen(true);
        } else {
          const late = new Set(news);
          for (const [at, version] of versions.entries()) {
            const known = cache.node(`i${at}`);
            if (known && !late.has(at)) assert.equal(known.mode, version);
          }
        }
      }
      while (news.length > 0) arrive();
      for (const [at, version] of versions.entries()) {
        const known = cache.node(`i${at}`);
        if (known) assert.equal(known.mode, version);
      }
    }),
    { numRuns: 3000 },
  );
});

function filled(size: number): ClientCache {
  const cache = new ClientCache({ clock, size, expire: 1000 });
  cache.listen(true);
  for (let n = 0; n < 10 * size; n++) {
    const ticket = cache.begin();
    cache.keepNode(ticket, `i${n}`, attr(n));
    cache.keepEntry(ticket, `d${n >> 2}`, Buffer.from(`${n}`), n % 2 ? null : { type: NodeType.File, ino: ino(n) });
    cache.end(ticket);
  }
  return cache;
}

test('no more nodes and names are kept than were asked for, and those used last stay', () => {
  const cache = filled(100);
  const nodes = Array.from({ length: 1000 }, (_, n) => cache.node(`i${n}`)).filter(Boolean).length;
  const names = Array.from({ length: 1000 }, (_, n) => cache.entry(`d${n >> 2}`, Buffer.from(`${n}`))).filter(
    (each) => each !== undefined,
  ).length;
  assert.equal(nodes, 100);
  assert.ok(names > 80 && names <= 100, String(names));
  assert.equal(cache.node('i999')?.mode, 999);
  assert.equal(cache.entry('d249', Buffer.from('999')), null);
});

test('a directory with more names than fit is begun anew', () => {
  const cache = new ClientCache({ clock, size: 10, expire: 1000 });
  cache.listen(true);
  for (let n = 0; n < 1000; n++) {
    const ticket = cache.begin();
    cache.keepEntry(ticket, 'd1', Buffer.from(`${n}`), null);
    cache.end(ticket);
  }
  const names = Array.from({ length: 1000 }, (_, n) => cache.entry('d1', Buffer.from(`${n}`))).filter((each) => each === null);
  assert.ok(names.length > 0 && names.length <= 10);
});

test('nothing is kept for longer than was asked for, and nothing without somebody who hears of changes', () => {
  const cache = filled(100);
  state.now += 1001;
  assert.equal(cache.node('i999'), undefined);
  assert.equal(cache.entry('d249', Buffer.from('999')), undefined);
  cache.listen(false);
  assert.equal(cache.begin(), NO_TICKET);
  cache.keepNode(NO_TICKET, 'i1', attr(1));
  assert.equal(cache.node('i1'), undefined);
});
