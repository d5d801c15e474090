import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { AnnotationError, isWithin, MAX_ANNOTATION_BYTES, parseVolumes, referenceOf } from './annotation.ts';

function refusalOf(text: string): string {
  try {
    parseVolumes(text);
  } catch (error) {
    assert.ok(error instanceof AnnotationError, String(error));
    assert.equal(error.code, 'AnnotationInvalid');
    assert.match(error.hint ?? '', /^Accepted: name=\/path/);
    return error.message;
  }
  return assert.fail(`${text} was accepted`);
}

const request = {
  namespace: undefined,
  subPath: '',
  readOnly: false,
  containers: undefined,
  cachePolicy: undefined,
  mode: 'auto',
};

test('the compact form gives name, path and whether it is read-only', () => {
  assert.deepEqual(parseVolumes('datasets=/data:ro,checkpoints=/ckpt'), [
    { ...request, name: 'datasets', mountPath: '/data', readOnly: true },
    { ...request, name: 'checkpoints', mountPath: '/ckpt' },
  ]);
});

test('the compact form takes access and mode in either order', () => {
  for (const text of ['a=/a:ro:sync', 'a=/a:sync:ro'])
    assert.deepEqual(parseVolumes(text), [{ ...request, name: 'a', mountPath: '/a', readOnly: true, mode: 'sync' }]);
  assert.deepEqual(parseVolumes('a=/a:fuse'), [{ ...request, name: 'a', mountPath: '/a', mode: 'fuse' }]);
});

test('the compact form takes a namespace, blanks, line ends and a last comma', () => {
  assert.deepEqual(parseVolumes('\n  shared/base.v1 = /base ,\n b=/b:rw,\n'), [
    { ...request, namespace: 'shared', name: 'base.v1', mountPath: '/base' },
    { ...request, name: 'b', mountPath: '/b' },
  ]);
});

test('the list form gives the same as YAML and as JSON, with every field', () => {
  const yaml = `
# what the trainer reads
- name: shared/datasets
  mountPath: /data
  subPath: imagenet/2012
  readOnly: true
  containers: [train, eval]
  cachePolicy: large
  mode: sync
- {name: scratch, mountPath: /scratch}
`;
  const json = JSON.stringify([
    {
      name: 'shared/datasets',
      mountPath: '/data',
      subPath: 'imagenet/2012',
      readOnly: true,
      containers: ['train', 'eval'],
      cachePolicy: 'large',
      mode: 'sync',
    },
    { name: 'scratch', mountPath: '/scratch' },
  ]);
  assert.deepEqual(parseVolumes(yaml), parseVolumes(json));
  assert.deepEqual(parseVolumes(yaml)[0], {
    namespace: 'shared',
    name: 'datasets',
    mountPath: '/data',
    subPath: 'imagenet/2012',
    readOnly: true,
    containers: ['train', 'eval'],
    cachePolicy: 'large',
    mode: 'sync',
  });
});

test('one path may be used twice where no container sees both', () => {
  const text = '[{name: a, mountPath: /data, containers: [one]}, {name: b, mountPath: /data, containers: [two]}]';
  assert.equal(parseVolumes(text).length, 2);
  assert.match(refusalOf(text.replace('two', 'one')), /entry 2 \("b"\): "\/data" is already the path of entry 1 \("a"\)/);
});

test('each mistake is refused with the part at fault', () => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ['', /is empty/],
    ['  \n ', /is empty/],
    ['[]', /empty list/],
    ['datasets', /entry 1 \("datasets"\): "datasets" has no "="; write name=\/path/],
    ['a=/a,,b=/b', /entry 2: it is empty/],
    ['=/a', /no volume name before "="/],
    ['a=', /no path after "="/],
    ['a=data', /the mount path "data" is not absolute/],
    ['a=/a;b=/b', /entry 1 \("a=\/a;b=\/b"\): "\/a;b=\/b" holds ";"; entries are separated by commas/],
    ['a=/a b=/b', /holds " "; entries are separated by commas/],
    ['a=/data:rx', /":rx" after the path "\/data" is unknown; accepted are ":ro", ":rw", ":fuse", ":sync" and ":auto"/],
    ['a=/da:ta:ro', /":ta" after the path "\/da" is unknown/],
    ['a=/data:ro:rw', /":ro" and ":rw" after the path "\/data" exclude each other/],
    ['a=/data:sync:fuse', /":sync" and ":fuse" after the path "\/data" exclude each other/],
    ['[{name: a, mountPath: /a, mode: nfs}]', /mode "nfs" is unknown; accepted are auto, fuse, sync/],
    ['a=/', /the mount path "\/" is reserved/],
    ['a=/proc/self', /"\/proc\/self" is reserved/],
    ['a=/var/run', /"\/var\/run" is reserved/],
    ['a=/juicepod/mnt', /reserved/],
    ['a=/data/../etc', /is not in its plain form; write "\/etc"/],
    ['a=/data/', /write "\/data"/],
    ['a=//data', /write "\/data"/],
    ['Data=/data', /the volume name "Data" is not a resource name/],
    ['a/b/c=/data', /the volume name "b\/c" is not a resource name/],
    ['A/b=/data', /the namespace "A" of volume "A\/b" is not a namespace name/],
    [`${'a'.repeat(254)}=/data`, /is not a resource name/],
    ['a=/a,b=/a', /entry 2 \("b"\): "\/a" is already the path of entry 1 \("a"\)/],
    ['a=/a,b=/a/b', /lie inside each other/],
    ['a=/a/b,b=/a', /lie inside each other/],
    [`a=/${'x'.repeat(300)}`, /longer than 255 bytes/],
    [`a=/${'x/'.repeat(600)}x`, /at most 1024 are accepted/],
    ['a=/da\u0007ta', /holds a control character/],
    [Array.from({ length: 17 }, (_, i) => `v${i}=/v${i}`).join(','), /more than 16 volumes/],
    ['{name: a, mountPath: /a}', /a list is wanted; found a map/],
    ['- a', /entry 1: a map with name and mountPath is wanted; found the text "a"/],
    ['[7]', /found the number 7/],
    ['[{mountPath: /a}]', /entry 1: it has no name/],
    ['[{name: a}]', /entry 1 \("a"\): it has no mountPath/],
    ['[{name: a, mountPath: /a, path: /b}]', /field "path" is unknown; accepted are name, mountPath/],
    ['[{name: 7, mountPath: /a}]', /name must be a string; found the number 7/],
    ['[{name: a, mountPath: /a, readOnly: "yes"}]', /readOnly must be true or false; found the text "yes"/],
    ['[{name: a, mountPath: /a, containers: main}]', /containers must be a list/],
    ['[{name: a, mountPath: /a, containers: []}]', /containers is an empty list/],
    ['[{name: a, mountPath: /a, containers: [x, x]}]', /containers names "x" twice/],
    ['[{name: a, mountPath: /a, containers: [X]}]', /must hold container names; found "X"/],
    ['[{name: a, mountPath: /a, subPath: /x}]', /subPath "\/x" must be relative to the volume's root; write "x"/],
    ['[{name: a, mountPath: /a, owner: "1:1"}]', /owner is of the directory that subPath names/],
    ['[{name: a, mountPath: /a, subPath: x, readOnly: true, permissions: "0700"}]', /a read-only mount never does/],
    ['[{name: a, mountPath: /a, subPath: x, owner: root}]', /owner "root" is not "user:group" in numbers/],
    ['[{name: a, mountPath: /a, subPath: x, owner: "1:4294967295"}]', /write for example "1000:1000"/],
    ['[{name: a, mountPath: /a, subPath: x, permissions: "0888"}]', /"0888" are not octal/],
    ['[{name: a, mountPath: /a, subPath: x, permissions: 0770}]', /permissions must be a string/],
    ['[{name: a, mountPath: /a, subPath: ../x}]', /must not contain "\.\."/],
    ['[{name: a, mountPath: /a, subPath: x//y}]', /write "x\/y"/],
    ['[{name: a, mountPath: /a, cachePolicy: X}]', /cachePolicy "X" is not a resource name/],
    [
      '[{name: a, mountPath: /a, cachePolicy: x}, {name: b, mountPath: /b, cachePolicy: y}]',
      /"x" and "y" are both named; one client/,
    ],
    ['[{name: a, mountPath: /a', /near .* is not valid YAML or JSON/],
    ['[{name: a, name: b, mountPath: /a}]', /not valid YAML or JSON: Map keys must be unique/],
    ['[&x {name: a, mountPath: /a}, *x]', /not valid YAML or JSON: Alias/],
  ];
  for (const [text, expected] of cases) assert.match(refusalOf(text), expected, text);
});

test('a refusal stays short however long the text is', () => {
  for (const text of ['x'.repeat(60_000), `a=/${'y'.repeat(60_000)}`, `[{name: ${'z'.repeat(60_000)}, mountPath: /a}]`])
    assert.ok(refusalOf(text).length < 500);
});

test('an annotation of more than 64 KiB is refused before it is parsed', () => {
  assert.match(refusalOf('a'.repeat(1 << 20)), /longer than 64 KiB \(1048576 bytes\)/);
  assert.match(refusalOf('é'.repeat(MAX_ANNOTATION_BYTES / 2 + 1)), /longer than 64 KiB/);
});

test('texts that are costly to parse are refused before the parser sees them', () => {
  const costly = [
    '['.repeat(60_000),
    '- '.repeat(30_000),
    `[${'"a",'.repeat(15_000)}]`,
    `[${'!!a '.repeat(15_000)}]`,
    `- ${Array.from({ length: 5000 }, (_, index) => `  k${index}: v`).join('\n')}`,
    Array.from({ length: 300 }, (_, index) => `${' '.repeat(index)}- `).join('\n'),
  ];
  for (const text of costly) assert.match(refusalOf(text), /nested too deeply|too many parts/, text.slice(0, 40));
});

const label = fc.stringMatching(/^[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?$/);
const path = fc
  .array(fc.stringMatching(/^[a-zA-Z0-9_ äß-]{1,12}$/), { minLength: 1, maxLength: 4 })
  .map((parts) => `/m/${parts.map((part) => `p${part.trim()}`).join('/')}`);

test('what is written in the list form is read back', () => {
  const entry = fc.record(
    {
      namespace: fc.option(label, { nil: undefined }),
      name: label,
      mountPath: path,
      subPath: fc.constantFrom('', 'a', 'a/b'),
      readOnly: fc.boolean(),
      containers: fc.option(fc.uniqueArray(label, { minLength: 1, maxLength: 3 }), { nil: undefined }),
      cachePolicy: fc.constantFrom(undefined, 'fast'),
      mode: fc.constantFrom('auto' as const, 'fuse' as const, 'sync' as const),
    },
    { noNullPrototype: true },
  );
  fc.assert(
    fc.property(fc.array(entry, { minLength: 1, maxLength: 16 }), (entries) => {
      const separate = entries.filter((one, index) =>
        entries
          .slice(0, index)
          .every((other) => !isWithin(one.mountPath, other.mountPath) && !isWithin(other.mountPath, one.mountPath)),
      );
      const text = JSON.stringify(separate.map((one) => ({ ...one, namespace: undefined, name: referenceOf(one) })));
      assert.deepEqual(parseVolumes(text), separate);
    }),
    { numRuns: 500 },
  );
});

test('any text is either read or refused with an AnnotationError', () => {
  const mutated = fc
    .tuple(
      fc.constantFrom<string[]>(
        'datasets=/data:ro,checkpoints=/ckpt',
        '[{name: a, mountPath: /a, readOnly: true}]',
        '- name: a\n  mountPath: /a\n',
      ),
      fc.array(fc.tuple(fc.nat(60), fc.nat(3), fc.string({ maxLength: 4, unit: 'binary' })), { maxLength: 5 }),
    )
    .map(([text, edits]) => edits.reduce<string>((now, [at, cut, put]) => now.slice(0, at) + put + now.slice(at + cut), text));
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: 'binary', maxLength: 200 }), mutated), (text) => {
      try {
        for (const one of parseVolumes(text)) assert.ok(one.mountPath.startsWith('/') && one.mountPath.length > 1);
      } catch (error) {
        assert.ok(error instanceof AnnotationError, String(error));
      }
    }),
    { numRuns: 3000 },
  );
});

test('owner and permissions of a directory become numbers; one of them brings the other', () => {
  const directoryOf = (members: string): unknown =>
    parseVolumes(`[{name: a, mountPath: /a, subPath: x, ${members}}]`)[0]?.directory;
  assert.deepEqual(directoryOf('owner: "1000:2000", permissions: "0770"'), { uid: 1000, gid: 2000, mode: 0o770 });
  assert.deepEqual(directoryOf('owner: "1000:2000"'), { uid: 1000, gid: 2000, mode: 0o755 });
  assert.deepEqual(directoryOf('permissions: "2775"'), { uid: 0, gid: 0, mode: 0o2775 });
  assert.equal(directoryOf('readOnly: true'), undefined);
});
