/** The command `mount`: a file of its own, because whoever mounts waits for what is declared. */
import type { Command } from 'commander';
import { addSemantics } from './mount/mount-semantics.ts';
import { addCache } from './program-cache.ts';
import { output, run, storage } from './program-parts.ts';

/** Declares it. */
export function addMount(juicepod: Command): void {
  addCache(
    addSemantics(
      storage(
        juicepod
          .command('mount')
          .summary('mount a volume')
          .description('Mounts a volume. A parent process keeps the mount over a crash of the client and unmounts at the end.')
          .argument('[META-URL]')
          .argument('[MOUNTPOINT]'),
      )
        .option('-d, --background', 'go to the background when the mount answers')
        .option('--log <path>', 'log file when in the background (default: /var/log/juicepod.log, or ~/.juicepod/juicepod.log)')
        .option('--read-only', 'allow no changes')
        .option('--subdir <path>', 'mount a directory of the volume as the root')
        .option('--enable-xattr', 'allow extended attributes')
        .option('--hide-internal', 'leave .accesslog, .config and .stats out of listings')
        .option('-o <options>', 'FUSE options, separated by commas: allow_other, ro'),
    ),
  )
    .option('--attr-cache <time>', 'how long the kernel trusts attributes', '1.0s')
    .option('--entry-cache <time>', 'how long the kernel trusts names of files', '1.0s')
    .option('--dir-entry-cache <time>', 'how long the kernel trusts names of directories', '1.0s')
    .option('--negative-entry-cache <time>', 'how long the kernel trusts that a name does not exist', '0s')
    .option(
      '--cache-whole-files <size>',
      'part of the cache for whole files, which the kernel reads without asking; 0 for none (default: half with --read-only where it can, else none)',
    )
    .option('--buffer-size <size>', 'memory for data being read and written', '300M')
    .option('--max-readahead <size>', 'what one open file reads ahead at most', '32M')
    .option('--max-uploads <count>', 'uploads at once', '20')
    .option('--max-downloads <count>', 'downloads at once', '200')
    .option(
      '--writeback',
      'write to the cache directory first and upload afterwards; others cannot read what is not uploaded yet',
    )
    .option('--upload-delay <time>', 'with --writeback: how long data stays in the cache directory before it is uploaded', '0s')
    .option(
      '--staging-size <size>',
      'with --writeback: bytes that may wait there; more is uploaded directly (default: the cache size)',
    )
    .option('--upload-limit <Mbps>', 'uploads in Mbit/s, or with G in Gbit/s (default: as the volume says)')
    .option('--download-limit <Mbps>', 'downloads in Mbit/s, or with G in Gbit/s (default: as the volume says)')
    .option('--max-metadata-ops <count>', 'operations on names and attributes in a second; 0 is no limit', '0')
    .option('--io-retries <count>', 'attempts of a request to the object store after the first one', '10')
    .option('--heartbeat <time>', 'how often the session is renewed', '12s')
    .option('--metrics <address>', 'where /metrics is served; none: nowhere (default: 127.0.0.1:9567, or another port)')
    .option('--custom-labels <labels>', 'labels of all metrics: name:value;name:value')
    .option('--no-bgjob', 'leave cleaning up to other clients')
    .option(
      '--skip-jobs <names>',
      'leave these jobs to other clients: sessions, files, slices, trash, changelog, separated by commas',
    )
    .option('--backup-meta <time>', 'how often the metadata is backed up into the object store; 0 is never', '1h')
    .option('--backup-skip-trash', 'leave the trash out of such a backup')
    .option('--plan <file>', 'mount what the plan of a pod says (used by the sidecar)')
    .option('--socket <path>', 'socket of the holder that keeps the mounts (used by the sidecar)')
    .addOption(output(''))
    .action(run(async (options, url, mountPoint) => (await import('./mount/mount.ts')).mountCommand(url, mountPoint, options)));
}
