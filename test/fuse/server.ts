/**
 * A process of its own that serves a Memfs for the tests: `node server.ts <json>`. It prints a line of JSON for each thing
 * that happens, and answers lines on its standard input: "stats", "stop", "chmod <ino>", "invalidate <ino>".
 */
import { createInterface } from 'node:readline';
import { HolderLink, openSession } from '../../src/client/handover.ts';
import { plainLogger } from '../../src/client/hold.ts';
import { realTarget } from '../../src/fuse/mount.ts';
import { RawTransport } from '../../src/fuse/raw.ts';
import type { FuseTransport } from '../../src/fuse/types.ts';
import type { Watch } from '../../src/fuse/watch.ts';
import { ino } from '../../src/lib/int64.ts';
import { Memfs } from './memfs.ts';

export interface ServerConfig {
  readonly target: string;
  readonly transport?: 'raw' | 'native';
  readonly watch?: Watch['kind'];
  readonly holder?: string;
  readonly store?: string;
  readonly delayed?: boolean;
  readonly timeout?: number;
  readonly maxHeldBuffers?: number;
  readonly unprivileged?: boolean;
  readonly allowOther?: boolean;
  /** Files "0".."n-1" made in the root before the start. */
  readonly names?: number;
}

const config = JSON.parse(process.argv[2] ?? '{}') as ServerConfig;
const print = (event: Readonly<Record<string, unknown>>): void => void process.stdout.write(`${JSON.stringify(event)}\n`);
const log = plainLogger();
const stop = new AbortController();
const target = await realTarget(config.target);

function fill(fs: Memfs): void {
  const request = { unique: 0, uid: 0, gid: 0, pid: 0, resent: false, signal: stop.signal, park() {} };
  const ignored = (): void => {};
  const reply = { entry: ignored } as unknown as Parameters<Memfs['mknod']>[1];
  for (let index = 0; index < (config.names ?? 0); index++)
    fs.mknod(request, reply, ino(1), Buffer.from(`name-${index}`), 0o100644, 0);
  fs.lookups.clear();
}

const link = config.holder === undefined ? undefined : new HolderLink(config.holder, log);
let fs: Memfs;
let transport: FuseTransport;
let finish = async (): Promise<void> => {};
if (config.transport === 'native') {
  const { NativeTransport } = await import('../../src/fuse/native.ts');
  fs = new Memfs(config);
  transport = new NativeTransport({ target, log, onMounted: () => print({ event: 'serving' }) });
} else {
  const mount = {
    target,
    onTop: link !== undefined,
    ...(config.unprivileged && { unprivileged: true }),
    ...(config.allowOther !== undefined && { allowOther: config.allowOther }),
  };
  const session = await openSession({ mount, log, ...(link && { link }) });
  const { journal, resume } = session;
  fs = new Memfs({ ...config, journal });
  const options = { fd: session.fd, log, ...(config.watch && { watch: config.watch }) };
  const held = config.maxHeldBuffers === undefined ? {} : { maxHeldBuffers: config.maxHeldBuffers };
  transport = new RawTransport({
    ...options,
    ...held,
    ...(resume && { resume: resume.init }),
    onInit: (init) => session.onInit(init),
  });
  finish = async () => {
    session.close();
  };
  print({ event: 'serving', resumed: resume !== undefined, handles: journal.entries().length });
}
fill(fs);

createInterface({ input: process.stdin }).on('line', (line) => {
  const [word, argument] = line.split(' ');
  if (word === 'stats')
    print({
      event: 'stats',
      lookups: Object.fromEntries(fs.lookups),
      open: fs.open_.size,
      interrupted: fs.interrupted,
      resent: fs.resent,
      cpu: process.cpuUsage(),
    });
  else if (word === 'stop') stop.abort();
  else if (word === 'chmod') {
    // Behind the kernel's back.
    const node = fs.nodes.get(ino(Number(argument)));
    if (node) node.mode = 0o100600;
    print({ event: 'done' });
  } else if (word === 'invalidate')
    transport.notifier.invalidateInode(ino(Number(argument)), 0, 0, () => print({ event: 'done' }));
});
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop.abort());

const end = await transport.serve(fs, stop.signal);
print({ event: 'end', end });
await finish();
link?.close();
process.exit(0);
