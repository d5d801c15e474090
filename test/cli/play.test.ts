/** `juicepod play`: an annotated pod on this machine, from the quickstart to what people get wrong. Nothing stays mounted or running. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { cannotMount } from '../mounted.ts';
import { commandLines, inScratch, refuses, refusesInJson, run, succeeds, until } from './command.ts';

const quickstart = resolve(import.meta.dirname, '../../examples/quickstart');

/** The quickstart in a folder of its own, with its volume below it, and its files changed. */
function quickstartIn(folder: string, change: (text: string) => string = (text) => text): string {
  const copy = join(folder, 'play');
  cpSync(quickstart, copy, { recursive: true });
  for (const name of readdirSync(copy)) {
    const path = join(copy, name);
    writeFileSync(path, change(readFileSync(path, 'utf8').replaceAll('/tmp/juicepod-quickstart', join(folder, 'volume'))));
  }
  return copy;
}

/** With another command for the application. */
const running = (script: string) => (text: string) =>
  text.replace(/ {6}command:[\s\S]*/, `      command: [sh, -c, ${JSON.stringify(script)}]\n`);

/** Whoever has a part in a play: mounts, processes and scratch folders of this machine. */
function traces(folder: string): readonly string[] {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes('juicepod-play-') || line.includes(folder));
  const processes = commandLines()
    .filter(({ text }) => text.includes(folder))
    .map(({ text }) => text);
  return [...mounts, ...processes];
}

test(
  'the quickstart lists the files it wrote, finds them the next time, and leaves nothing mounted',
  { skip: cannotMount },
  async () => {
    await inScratch(async (folder) => {
      const copy = quickstartIn(folder);
      const first = await succeeds(['play', copy]);
      assert.match(first, /files from earlier runs: 0/);
      assert.match(first, /random\.bin: OK/);
      assert.match(first, /\/data\/run-[\d-]+\/hello\.txt/);
      assert.match(first, /sidecars juicepod-holder and juicepod-client/);
      assert.match(first, /nothing is left mounted/);
      await until('nothing is left', () => traces(folder).length === 0);
      assert.match(await succeeds(['play', copy]), /files from earlier runs: 1/);
      const json = JSON.parse(await succeeds(['play', copy, '--output', 'json'])) as {
        exitCode: number;
        lines: { line: string }[];
      };
      assert.equal(json.exitCode, 0);
      assert.ok(json.lines.some(({ line }) => line === 'files from earlier runs: 2'));
      await until('nothing is left', () => traces(folder).length === 0);
    });
  },
);

test(
  'a pod with write-back uploads what is staged before it is gone, however long its delay',
  { skip: cannotMount },
  async () => {
    await inScratch(async (folder) => {
      const copy = quickstartIn(folder);
      const volume = readFileSync(join(copy, 'volume.yaml'), 'utf8');
      writeFileSync(join(copy, 'volume.yaml'), `${volume.trimEnd()}\n  cachePolicyRef: { name: later }\n`);
      writeFileSync(
        join(copy, 'policy.yaml'),
        `apiVersion: juicepod.io/v1alpha1
kind: JuiceCachePolicy
metadata: { name: later }
spec: { writeback: { enabled: true, uploadDelay: 1h } }
`,
      );
      assert.match(await succeeds(['play', copy]), /random\.bin: OK/);
      const blocks = readdirSync(join(folder, 'volume'), { recursive: true, withFileTypes: true }).filter(({ name }) =>
        /^\d+_\d+_\d+$/.test(name),
      );
      assert.ok(blocks.length >= 6, 'a file of 16 MiB and two small ones are in the store');
      const reader = running('cd /data/run-* && sha256sum -c random.sha256 && cat hello.txt');
      writeFileSync(join(copy, 'pod.yaml'), reader(readFileSync(join(copy, 'pod.yaml'), 'utf8')));
      const second = await succeeds(['play', copy]);
      assert.match(second, /random\.bin: OK/, 'another pod, with a cache of its own, reads them');
      assert.match(second, /read back from a JuiceFS volume/);
      await until('nothing is left', () => traces(folder).length === 0);
    });
  },
);

test('an ordinary user plays, too, or is told what the machine does not allow', { skip: cannotMount }, async () => {
  await inScratch(async (folder) => {
    const copy = quickstartIn(folder);
    execFileSync('chown', ['-R', '65534:65534', folder]);
    const { code, stdout, stderr } = await run(['play', copy], {
      wrap: ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'],
      env: { HOME: folder, NODE_COMPILE_CACHE: join(folder, 'compiled') },
    });
    if (code === 0) assert.match(stdout, /random\.bin: OK/);
    else assert.match(stderr, /^juicepod: .*(user namespaces|\/dev\/fuse)/);
    await until('nothing is left', () => traces(folder).length === 0);
  });
});

for (const [what, change, wanted] of [
  [
    'without an annotation',
    (text: string) => text.replace(/ {2}annotations:\n.*\n/, ''),
    /has no annotation juicepod.io\/volumes/,
  ],
  [
    'with an annotation that cannot be read',
    (text: string) => text.replace('quickstart=/data', 'quickstart:data'),
    /juicepod.io\/volumes/,
  ],
  ['with a path that is not absolute', (text: string) => text.replace('=/data', '=data'), /absolute/],
  ['with a volume that is not there', (text: string) => text.replace('volumes: quickstart=', 'volumes: other='), /other/],
  ['with YAML that is none', (text: string) => text.replace('spec:', 'spec: ]['), /\S/],
  ['whose container says no command', (text: string) => text.replace(/ {6}command:[\s\S]*/, ''), /command is missing/],
  [
    'on a volume that is not local',
    (text: string) => text.replace(/ {4}sqlite:\n.*\n/, '    redis:\n      addresses: [redis:6379]\n      database: 1\n'),
    /metadata.sqlite and storage.file only/,
  ],
] as const)
  test(`a pod ${what} is refused in one sentence`, { skip: cannotMount }, async () => {
    await inScratch(async (folder) => {
      const copy = quickstartIn(folder, change);
      const { code, stderr } = await run(['play', copy]);
      assert.equal(code, 1);
      assert.match(stderr, wanted);
      assert.ok(stderr.trimEnd().split('\n').length <= 2, stderr);
      assert.doesNotMatch(stderr, /^ +at /m);
      await until('nothing is left', () => traces(folder).length === 0);
    });
  });

test('a folder without a pod, or with two, is refused', { skip: cannotMount }, async () => {
  await inScratch(async (folder) => {
    const copy = quickstartIn(folder);
    const pod = join(copy, 'pod.yaml');
    writeFileSync(join(copy, 'second.yaml'), readFileSync(pod));
    await refuses(['play', copy], /holds 2 Pods; play runs exactly one/);
    mkdirSync(join(folder, 'only-volume'));
    cpSync(join(copy, 'volume.yaml'), join(folder, 'only-volume/volume.yaml'));
    await refuses(['play', join(folder, 'only-volume')], /holds 0 Pods/);
    await refusesInJson(['play', join(folder, 'only-volume')], 'PodMissing');
  });
});

test('an application that fails ends the play with its code told, and what it wrote is kept', { skip: cannotMount }, async () => {
  await inScratch(async (folder) => {
    const copy = quickstartIn(folder, running('echo kept > /data/file; exit 3'));
    const { code, stderr } = await run(['play', copy]);
    assert.equal(code, 1);
    assert.match(stderr, /ended with 3; nothing is left mounted/);
    await until('nothing is left', () => traces(folder).length === 0);
    const again = quickstartIn(folder, running('cat /data/file'));
    assert.match(await succeeds(['play', again]), /kept/);
  });
});

test(
  'Ctrl-C in the middle of a play ends everything in order: nothing mounted, no process, what was written stored',
  { skip: cannotMount },
  async () => {
    await inScratch(async (folder) => {
      const copy = quickstartIn(folder, running('echo written > /data/file; echo ready; exec sleep 600'));
      let interrupt = (): void => {};
      const ended = run(['play', copy], {
        onStart: (child) => {
          interrupt = () => void process.kill(-(child.pid ?? 0), 'SIGINT');
          child.stdout?.on('data', (data: Buffer) => {
            if (data.toString().includes('| ready')) interrupt();
          });
        },
      });
      const { code, stderr } = await ended;
      assert.notEqual(code, 0);
      assert.match(stderr, /interrupted; the pod was ended and nothing is left mounted/);
      await until('nothing is left', () => traces(folder).length === 0);
      const again = quickstartIn(folder, running('cat /data/file'));
      assert.match(await succeeds(['play', again]), /written/);
    });
  },
);
