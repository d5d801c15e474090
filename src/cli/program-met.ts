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
    .action(run(async (options, path = '') => (await import('./stats.ts')).statsCommand(path, options)));

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
    .action(run(async (options, path = '') => (await import('./profile.ts')).profileCommand(path, options)));
}
