import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HashRing, murmur3 } from './hash-ring.ts';

test('the hash is MurmurHash3', () => {
  // Taken from github.com/twmb/murmur3 v1.1.8.
  for (const [text, hash] of [
    ['', 0],
    ['a', 1009084850],
    ['ab', 2613040991],
    ['abc', 3017643002],
    ['abcd', 1139631978],
    ['hello, world', 345750399],
    ['chunks/0/0/1_0_4194304', 3576660226],
  ] as const)
    assert.equal(murmur3(text), hash, text);
});

/** Owners of 200 keys as the modules say that JuiceFS 1.4.1 uses; keys as below. */
const golden: readonly (readonly [ids: readonly string[], owners: string])[] = [
  [
    ['5e3c1c3a-1111-4a6b-8c1d-000000000001'],
    '00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000',
  ],
  [
    ['5e3c1c3a-1111-4a6b-8c1d-000000000001', '5e3c1c3a-1111-4a6b-8c1d-000000000002'],
    '01010010100101111100111111001101000110011010101111111001110111000101001110010010001110011100100011001100001010111111100010101100100000101111001111011101000110010001101010010101011011100111010101110101',
  ],
  [
    ['a4b6e0f8-52a1-4a0c-93a5-5c0c4e3a9b11', '0d5b43c1-9c46-4b5c-8f0d-7a1bb8d1f722', 'e2b6a3a0-5d0c-43f4-a7b3-2f30b6c2d833'],
    '02022010001222210221222202122110112212211120222202200012112002022022120120210200101012001012012222102222201210021001201220222200111012120210011222221220002001102211212022202012222220020221010110110102',
  ],
  [
    ['x', 'yy', 'zzz', 'wwww', 'vvvvv'],
    '00234124213214121334302111224010131443310311400021242443414040100030134101104322244134314321332102233432244302410304141124411120414403032214412313031021322120401220301134313210403200133003102413404430',
  ],
];

test('each key has the owner that it has in JuiceFS', () => {
  for (const [ids, owners] of golden) {
    const ring = new HashRing(ids);
    const found = Array.from(owners, (_, n) => {
      const i = n + 1;
      return String(ring.owner(`chunks/0/${Math.floor(i / 10)}/${i * 7}_${i % 16}_4194304`));
    }).join('');
    assert.equal(found, owners, ids.join(' '));
  }
});

test('without ids nobody owns anything', () => {
  assert.equal(new HashRing([]).owner('chunks/0/0/1_0_1'), undefined);
});

test('an id that leaves moves what was its own, and little else', () => {
  const all = Array.from({ length: 5 }, (_, n) => `id-${n}`);
  const before = new HashRing(all);
  const after = new HashRing(all.slice(0, 4));
  let moved = 0;
  const shares = [0, 0, 0, 0, 0];
  for (let n = 0; n < 5000; n++) {
    const owner = before.owner(String(n)) ?? 0;
    shares[owner]!++;
    if (owner < 4 && after.owner(String(n)) !== owner) moved++;
  }
  assert.ok(moved < 500, `${moved} of 5000 have moved between those that stay`);
  for (const share of shares) assert.ok(share > 750 && share < 1250, `shares of ${shares.join(', ')}`);
});
