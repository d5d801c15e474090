/**
 * How fast blocks go: stores alone (S3 by versitygw on loopback, a directory), then the block layer over S3, then its
 * caches. Prints a table; `node bench/chunk.ts [MiB]` (default 256). Everything runs on this machine, the server included,
 * so compare rows of one run only.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openChunkStore } from '../src/chunk/store.ts';
import { FileObjectStore } from '../src/object/file.ts';
import { openObjectStore } from '../src/object/open.ts';
import type { ObjectStore } from '../src/object/store.ts';
import { startS3 } from '../test/servers.ts';

const MIB = 1024 * 1024;
const BLOCK = 4 * MIB;
const total = Number(process.argv[2] ?? 256) * MIB;
const rows: { what: string; rate: string; 'cpu s/GiB': string }[] = [];

async function measure(what: string, bytes: number, action: () => Promise<void> | void, calls?: number): Promise<void> {
  const cpu = process.cpuUsage();
  const begun = performance.now();
  await action();
  const seconds = (performance.now() - begun) / 1000;
  const used = process.cpuUsage(cpu);
  const rate =
    calls === undefined ? `${(bytes / MIB / seconds).toFixed(0)} MiB/s` : `${((seconds * 1e6) / calls).toFixed(2)} µs each`;
  rows.push({ what, rate, 'cpu s/GiB': ((used.user + used.system) / 1e6 / (bytes / 1024 / MIB)).toFixed(2) });
}

async function atATime(width: number, count: number, action: (index: number, lane: number) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async (number: number): Promise<void> => {
    for (let index = next++; index < count; index = next++) await action(index, number);
  };
  await Promise.all(Array.from({ length: width }, (_, number) => lane(number)));
}

const folder = mkdtempSync(join(tmpdir(), 'juicepod-bench-'));
const server = await startS3();
try {
  const s3 = openObjectStore({
    storage: 's3',
    bucket: `${server.endpoint}/bench`,
    accessKey: server.accessKey,
    secretKey: server.secretKey,
    name: 'vol',
  });
  await s3.create();
  const body = Buffer.allocUnsafeSlow(BLOCK);
  for (let i = 0; i < body.length; i += 4) body.writeUInt32LE(Math.imul(i, 2654435761) >>> 0, i);
  const count = total / BLOCK;
  const stores: readonly (readonly [string, ObjectStore])[] = [
    ['S3', s3],
    ['file', new FileObjectStore(join(folder, 'file'))],
  ];
  for (const [name, store] of stores) {
    await measure(`${name}: put 4 MiB, 4 at a time`, total, () => atATime(4, count, (index) => store.put(`raw/${index}`, body)));
    const into = Array.from({ length: 8 }, () => Buffer.allocUnsafeSlow(BLOCK));
    await measure(`${name}: get 4 MiB, 8 at a time`, total, () =>
      atATime(8, count, async (index, lane) => void (await store.get(`raw/${index}`, { into: into[lane]! }))),
    );
    const small = into.map((buffer) => buffer.subarray(0, 131_072));
    await measure(`${name}: get 128 KiB ranges, 8 at a time`, 1000 * 131_072, () =>
      atATime(8, 1000, async (index, lane) => {
        await store.get(`raw/${index % count}`, { offset: (index * 131_072) % BLOCK, length: 131_072, into: small[lane]! });
      }),
    );
  }

  const disk = { folder: join(folder, 'cache'), freeRatio: 0 };
  const options = { objects: s3, uuid: 'b3b5a0b0-0000-4000-8000-000000000000', disk };
  const writer = openChunkStore(options);
  const slices = Array.from({ length: total / (64 * MIB) }, (_, index) => ({ id: index + 1, size: 64 * MIB }));
  await measure('block layer: write in 1 MiB pieces, S3', total, async () => {
    for (const slice of slices) {
      const slicing = writer.newSlice();
      slicing.setId(slice.id);
      for (let offset = 0; offset < slice.size; offset += MIB) {
        await writer.throttle();
        slicing.write(body.subarray(0, MIB), offset);
      }
      await slicing.finish();
    }
  });
  await writer.close();

  const target = Buffer.allocUnsafeSlow(MIB);
  const sequential = async (store: ReturnType<typeof openChunkStore>, ahead: number): Promise<void> => {
    for (const slice of slices)
      for (let offset = 0; offset < slice.size; offset += MIB) {
        if (ahead > 0) store.prefetch(slice, offset, ahead);
        if (!store.readCached(slice, offset, target)) await store.read(slice, offset, target);
      }
  };
  const cold = openChunkStore(options);
  await measure('block layer: sequential 1 MiB reads, cold', total, () => sequential(cold, 4 * BLOCK));
  await cold.close();
  const warm = openChunkStore({ ...options, memoryBytes: BLOCK });
  await measure('disk cache: sequential 1 MiB reads, first', total, () => sequential(warm, 0));
  await measure('disk cache: sequential 1 MiB reads, again', total, () => sequential(warm, 0));
  const page = Buffer.allocUnsafeSlow(4096);
  let missed = 0;
  const random = async (store: ReturnType<typeof openChunkStore>, size: number): Promise<void> => {
    for (let i = 0; i < 50_000; i++) {
      const slice = slices[i % slices.length]!;
      const offset = ((i * 7919) % (size / 4096)) * 4096;
      if (store.readCached(slice, offset, page)) continue;
      missed++;
      await store.read(slice, offset, page);
    }
  };
  await measure('disk cache: random 4 KiB reads', 50_000 * 4096, () => random(warm, 64 * MIB), 50_000);
  await warm.close();
  const fresh = openChunkStore({ ...options, memoryBytes: BLOCK });
  await measure('disk cache: random 4 KiB reads, first touch', 50_000 * 4096, () => random(fresh, 64 * MIB), 50_000);
  await fresh.close();
  const memory = openChunkStore({ objects: s3, uuid: options.uuid, memoryBytes: 2 * slices.length * BLOCK });
  await random(memory, BLOCK);
  await measure('memory: random 4 KiB reads', 50_000 * 4096, () => random(memory, BLOCK), 50_000);
  await memory.close();
  await s3.close();
  console.table(rows);
  console.log(`${missed} of the random reads had to wait; resident ${(process.memoryUsage().rss / MIB).toFixed(0)} MiB`);
} finally {
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
}
