/** Options of `mount` for the cache of blocks on disk, with the official client's names. Read in mount/cache-options.ts. */
import type { Command } from 'commander';

/** Declares them. */
export function addCache(command: Command): Command {
  return command
    .option(
      '--cache-dir <paths>',
      'directories of the block cache, separated by colons, with * and ? for parts of names; or memory (default: /var/jfsCache, or ~/.juicefs/cache)',
    )
    .option('--cache-size <size>', 'bytes of the block cache, in all directories together', '100G')
    .option(
      '--cache-items <count>',
      'blocks in the cache, some 40 bytes of memory each; 0: as many as the disks have inodes for, 5 million a directory at most',
      '500000',
    )
    .option(
      '--cache-eviction <policy>',
      'what makes room for new blocks: 2-random (old ones, picked at random), lru (the least recently used), none (nothing: new ones are not cached)',
      '2-random',
    )
    .option('--cache-expire <time>', 'blocks that are not used for so long are dropped; 0 is never', '0s')
    .option(
      '--cache-scan-interval <time>',
      'how often the directories are looked through for what others have changed there; 0 is once, at the start',
      '1h',
    )
    .option('--cache-mode <mode>', 'permissions of cached blocks, octal', '0600')
    .option('--cache-partial-only', 'cache only blocks that are shorter than the block size')
    .option('--cache-large-write', 'cache also whole blocks that are written')
    .option(
      '--verify-cache-checksum <level>',
      'what of a cached block is checked when it is read: extend (all 32 KiB pieces that are touched), shrink (those read wholly), full (blocks read wholly), none',
      'extend',
    )
    .option('--free-space-ratio <ratio>', 'part of each disk that is left free', '0.1');
}
