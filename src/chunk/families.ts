/** The figures of the block layer, as families of metrics. Names and meaning are JuiceFS's, but for those that say otherwise. */
import type { Family, Histogram } from '../lib/metrics.ts';

const kinds: Readonly<Record<string, readonly [type: 'counter' | 'gauge', help: string]>> = {
  blockcache_blocks: ['gauge', 'Blocks in the cache, in memory and on the disk'],
  blockcache_bytes: ['gauge', 'Bytes of the cache, in memory and on the disk'],
  blockcache_hits: ['counter', 'Reads of blocks that the cache answered'],
  blockcache_hit_bytes: ['counter', 'Bytes of reads that the cache answered'],
  blockcache_miss: ['counter', 'Reads of blocks that the cache could not answer'],
  blockcache_miss_bytes: ['counter', 'Bytes of reads that the cache could not answer'],
  blockcache_writes: ['counter', 'Blocks written to the cache directory'],
  blockcache_write_bytes: ['counter', 'Bytes written to the cache directory'],
  blockcache_drops: ['counter', 'Blocks that were not cached because the disk was full, broken or slow'],
  blockcache_evicts: ['counter', 'Blocks that made room for others'],
  blockcache_io_errors: ['counter', 'Failures of the cache directory (not a name of JuiceFS)'],
  blockcache_corrupt: ['counter', 'Damaged blocks found in the cache directory (not a name of JuiceFS)'],
  blockcache_failing_dirs: ['gauge', 'Cache directories that are not written to because they fail (not a name of JuiceFS)'],
  used_buffer_size_bytes: ['gauge', 'Memory of written data that is not stored yet'],
  used_read_buffer_size_bytes: ['gauge', 'Bytes that are being read ahead'],
  store_cache_size_bytes: ['gauge', 'Bytes of cached blocks in memory'],
  block_memory_bytes: ['gauge', 'Memory of blocks, whatever for: bounded by --buffer-size (not a name of JuiceFS)'],
  dirty_bytes: ['gauge', 'Bytes of written data that are not stored yet (not a name of JuiceFS)'],
  object_request_uploading: ['gauge', 'Uploads under way'],
  staging_blocks: ['gauge', 'Blocks that wait in the cache directory to be uploaded'],
  staging_block_bytes: ['gauge', 'Bytes that wait in the cache directory to be uploaded'],
  staging_writing_blocks: ['gauge', 'Blocks being written there'],
  staging_write_bytes: ['counter', 'Bytes written there'],
  staging_block_errors: ['counter', 'Blocks that could not be written there'],
  staging_block_delay_seconds: ['counter', 'How long blocks waited there until they were uploaded, seconds, summed up'],
  staging_unreadable_blocks: ['gauge', 'Blocks there that cannot be read, so not uploaded (not a name of JuiceFS)'],
  staging_lost_blocks: [
    'gauge',
    'Blocks that are gone from there without an object: lost, or removed by another client (not a name of JuiceFS)',
  ],
};

/** The values of now; one that there is no part for is 0. */
export function chunkFamilies(
  figures: Readonly<Record<string, number>>,
  cache: { readonly reads: Histogram; readonly writes: Histogram },
): readonly Family[] {
  const single = ([name, [type, help]]: [string, readonly ['counter' | 'gauge', string]]): Family => ({
    name,
    type,
    help,
    samples: () => [{ value: figures[name] ?? 0 }],
  });
  return [
    ...Object.entries(kinds).map(single),
    {
      name: 'blockcache_read_hist_seconds',
      type: 'histogram',
      help: 'How long blocks took to be read from the cache directory, seconds; hits in memory are not in it',
      samples: () => [{ value: cache.reads }],
    },
    {
      name: 'blockcache_write_hist_seconds',
      type: 'histogram',
      help: 'How long blocks took to be written to the cache directory, seconds',
      samples: () => [{ value: cache.writes }],
    },
  ];
}
