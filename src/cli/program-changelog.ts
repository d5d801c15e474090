/** `juicepod changelog`, and the options of `format` and `config` that a volume's change log has, as they are declared. */
import type { Command } from 'commander';
import { output, run } from './program-parts.ts';

/** Whether a volume keeps a change log, and how much of it. */
export function changeLogOptions(command: Command): Command {
  return command
    .option('--changelog [switch]', 'keep a log of all changes of the metadata, for juicepod changelog (=false: do not)')
    .option('--changelog-max-age <time>', 'how long its entries are kept (2h, 30m); 0 is for ever (default: 2h)')
    .option('--changelog-max-lines <count>', 'how many of its entries are kept; 0 is all (default: 0)');
}

export function addChangeLog(juicepod: Command): void {
  juicepod
    .command('changelog')
    .summary('follow the changes of a volume')
    .description(
      'Prints the change log of a volume, an entry on a line as it is written, until it is interrupted: number, time in Unix seconds, operation with its arguments and result, session and count of the client. In names, bytes that are not printable, and , % ( ) " \\ are %XX. The log is kept after: juicepod config META-URL --changelog\n\nWhat happens now:     juicepod changelog redis://localhost/1\nGo on behind 1234:    juicepod changelog redis://localhost/1 --from 1234\nAll that is kept:     juicepod changelog redis://localhost/1 --all --once',
    )
    .argument('<META-URL>')
    .option('--from <number>', 'begin behind this entry, the last one that is known; 0: with what is written from now on', '0')
    .option('--all', 'begin with the oldest entry that is kept')
    .option('--once', 'end after the newest entry')
    .addOption(output())
    .action(run(async (options, url = '') => (await import('./observe/changelog.ts')).changelogCommand(url, options)));
}
