/** The commands that look at what a mount does, and measure, as they are declared. */
import type { Command } from 'commander';
import { output, run } from './program-parts.ts';

export function addObservation(juicepod: Command): void {
  juicepod
    .command('stats')
    .summary('show what a mount does, second by second')
    .description(
      'Shows figures of a mount, of juicepod or juicefs, as they change: a line for each interval. Sections: t time, u usage, f fuse, m meta, c blockcache, o object, g heap. Read and write are bytes per second, ops operations per second, lat milliseconds.',
    )
    .argument('<MOUNTPOINT>')
    .option('--schema <letters>', 'sections, in order', 'ufmco')
    .option('--interval <seconds>', 'time between two lines', '1')
    .option('-l, --verbosity <level>', '1 shows more figures', '0')
    .option('-c, --count <lines>', 'end after so many; 0: go on', '0')
    .option('--no-color', 'no colours on a terminal')
    .addOption(output(''))
    .action(run(async (options, path = '') => (await import('./observe/stats.ts')).statsCommand(path, options)));

  juicepod
    .command('profile')
    .summary('show which operations a mount is asked for, and what they cost')
    .description(
      'Sums up the access log of a mount, of juicepod or juicefs: live, a table for each interval; or of a file that it was copied to (cat MOUNTPOINT/.accesslog > FILE), all at once.',
    )
    .argument('<MOUNTPOINT-OR-FILE>')
    .option('-u, --uid <uids>', 'of these users only, separated by commas')
    .option('-g, --gid <gids>', 'of these groups only')
    .option('-p, --pid <pids>', 'of these processes only')
    .option('--interval <seconds>', 'time that a table sums up (default: 2 live, 0 of a file: all of it)')
    .addOption(output(''))
    .action(run(async (options, path = '') => (await import('./observe/profile.ts')).profileCommand(path, options)));

  juicepod
    .command('debug')
    .summary('collect what somebody needs who is to help, without secrets')
    .description(
      'Writes an archive (tar.gz) about a mount: versions, options, figures, the log, the state of the client’s processes, a CPU profile of the client. In a pod: kubectl exec POD -c juicepod-holder -- juicepod debug MOUNTPOINT --out-dir - > bundle.tar.gz',
    )
    .argument('<MOUNTPOINT>')
    .option('--out-dir <folder>', 'where the archive goes; -: to standard output', './debug')
    .option('--limit <lines>', 'lines of the log, from its end', '5000')
    .option('--stats-sec <seconds>', 'time between the two readings of .stats; 0: one', '5')
    .option('--profile-sec <seconds>', 'how long the client is profiled; 0: not', '30')
    .addOption(output(''))
    .action(run(async (options, path = '') => (await import('./observe/debug.ts')).debugCommand(path, options)));
}

/** What measures: a path, a database, an object store. */
export function addBenchmarks(juicepod: Command): void {
  juicepod
    .command('bench')
    .summary('measure how fast files of a folder are written and read')
    .description(
      'Writes, reads and looks at big and small files in a folder of its own below PATH, and removes it. In a mount of juicepod or juicefs it tells what the mount did meanwhile. Drops the kernel’s cache in between, where it may (SKIP_DROP_CACHES=true: never).',
    )
    .argument('<PATH>')
    .option('--block-size <size>', 'size of each write and read, in MiB or with a unit', '1M')
    .option('--big-file-size <size>', 'size of each big file, in MiB or with a unit; 0: none', '1G')
    .option('--small-file-size <size>', 'size of each small file, in KiB or with a unit; 0: none', '128K')
    .option('--small-file-count <count>', 'small files of each thread', '100')
    .option('-p, --threads <count>', 'threads at once', '1')
    .addOption(output(''))
    .action(run(async (options, path = '') => (await import('./observe/bench.ts')).benchCommand(path, options)));

  juicepod
    .command('mdtest')
    .summary('measure how fast a metadata database makes and removes files')
    .description(
      'Makes a tree of directories and files in a volume, looks them up, lists them and removes them again, without a mount and without objects. PATH is a directory of the volume that is made for it, such as /test1.',
    )
    .argument('<META-URL>')
    .argument('<PATH>')
    .option('--threads <count>', 'operations at once', '1')
    .option('--dirs <count>', 'directories in each directory', '3')
    .option('--depth <levels>', 'levels of directories below the first', '2')
    .option('--files <count>', 'files of each thread in each directory', '10')
    .option('--write <size>', 'size of each file, in bytes or with a unit; the data itself is not there', '0')
    .addOption(output(''))
    .action(run(async (options, url = '', path = '') => (await import('./observe/mdtest.ts')).mdtestCommand(url, path, options)));

  juicepod
    .command('objbench')
    .summary('try and measure an object store')
    .description(
      'Tries what a volume needs of an object store, then measures it: puts, gets, lists, looks at and deletes objects below a prefix of their own. ENDPOINT is what --bucket is of format: a folder, or http(s)://host[:port]/bucket.',
    )
    .argument('<ENDPOINT>')
    .option('--storage <type>', 'object store: file, s3, minio, oss, cos, obs, gs, wasb, webdav, … (docs/stores.md)', 'file')
    .option('--access-key <key>', 'access key (or env ACCESS_KEY)')
    .option('--secret-key <key>', 'secret key (or env SECRET_KEY)')
    .option('--session-token <token>', 'session token (or env SESSION_TOKEN)')
    .option('--shards <count>', 'spread objects over so many buckets; ENDPOINT has a %d then')
    .option('--block-size <size>', 'size of each big object that is put, in KiB or with a unit', '4M')
    .option('--big-object-size <size>', 'bytes of big objects in all, in MiB or with a unit', '1G')
    .option('--small-object-size <size>', 'size of each small object, in KiB or with a unit', '128K')
    .option('--small-objects <count>', 'small objects', '100')
    .option('--skip-functional-tests', 'measure only')
    .option('-p, --threads <count>', 'requests at once', '4')
    .addOption(output(''))
    .action(run(async (options, endpoint = '') => (await import('./observe/objbench.ts')).objbenchCommand(endpoint, options)));
}
