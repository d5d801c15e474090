/** `juicepod sync` as the command line has it; the names are the official client's. */
import { type Command, Option } from 'commander';
import type { Rule } from '../objsync/rules.ts';
import { output, run } from './program-parts.ts';

const HELP = `
A place is a folder (/data/ or file:///data/), a volume (jfs://NAME/path/, its
metadata URL in the variable NAME), or an object store (s3://…, minio://…,
oss://…, wasb://…, webdav://…):
  [NAME://][KEY:SECRET[:TOKEN]@]BUCKET[.ENDPOINT]/
Objects of the same size count as equal, unless --update, --check-all or
--force-update say otherwise.

Patterns are rsync's: the first --include or --exclude that matches decides; *
and ? stop at a slash, ** does not, a slash at the beginning is the top, one at
the end means directories.

  juicepod sync /data/ s3://KEY:SECRET@bucket.s3.eu-west-1.amazonaws.com/data/
  vol=redis://localhost/1 juicepod sync --perms --links /home/ jfs://vol/home/
  juicepod sync --exclude '*.tmp' --delete-dst --dry /a/ /b/
`;

export function addStores(juicepod: Command): void {
  // In the order in which they are given, which decides; the same list for both options.
  const rules: Rule[] = [];
  const rule =
    (include: boolean) =>
    (pattern: string): readonly Rule[] => {
      rules.push({ include, pattern });
      return rules;
    };
  juicepod
    .command('sync')
    .summary('copy between folders, volumes and object stores')
    .description(
      'Copies what is in SRC to DST: both end with a slash (contents of a folder), or neither (everything whose path begins so). Interrupted, it leaves whole files; run again, it goes on.',
    )
    .argument('<SRC>')
    .argument('<DST>')
    .option('-s, --start <key>', 'the first key')
    .option('-e, --end <key>', 'the last key')
    .option('--exclude <pattern>', 'leave out what matches; may be given several times', rule(false))
    .option('--include <pattern>', 'do not leave out what matches, whatever a later --exclude says', rule(true))
    .option('--match-full-path', 'match patterns against whole paths, not each level of them')
    .option('--max-size <size>', 'leave out larger files')
    .option('--min-size <size>', 'leave out smaller files')
    .option('--max-age <time>', 'leave out files that were modified longer ago (7d, 12h)')
    .option('--min-age <time>', 'leave out files that were modified later than so long ago')
    .option('--start-time <time>', 'leave out files modified before it: "2006-01-02 15:04:05"')
    .option('--end-time <time>', 'leave out files modified after it')
    .option('--files-from <file>', 'copy only what stands in the lines of this file: files, and directories with all in them')
    .option('--limit <count>', 'stop after so many objects; -1 is no limit', '-1')
    .option('-u, --update', 'copy what is newer in SRC, whatever the sizes')
    .option('-f, --force-update', 'copy everything')
    .option('--existing', 'copy only what DST has already')
    .option('--ignore-existing', 'copy only what DST has not')
    .option('--dirs', 'copy directories, too, also empty ones')
    .option('--perms', 'keep owner and permissions')
    .option('-l, --links', 'copy symbolic links as links (default: what they lead to)')
    .option('--inplace', 'write into files of DST directly, not into new ones that then take their place')
    .option('--delete-src', 'remove from SRC what DST has')
    .option('--delete-src-after', 'remove from SRC what was copied')
    .option('--delete-dst', 'remove from DST what SRC has not')
    .option('--check-all', 'compare the bytes of everything')
    .option('--check-new', 'compare the bytes of what was copied')
    .option('--check-change', 'fail on files that change while they are copied')
    .option('--max-failure <count>', 'stop after so many failures; -1 is no limit', '-1')
    .option('--dry', 'only say what would be done')
    .option('-p, --threads <count>', 'objects (and 8 MiB parts of large ones) at the same time', '10')
    .option('--list-threads <count>', 'directories listed at the same time (one with --delete-…)', '1')
    .option('--list-depth <count>', 'so many levels of directories are listed at the same time', '1')
    .option('--no-https', 'speak plain HTTP to object stores')
    .option('--storage-class <name>', 'storage class of what is written to an object store')
    .option('--bwlimit <Mbps>', 'limit of the transfer in Mbit/s')
    .option('--enable-checkpoint', 'note in DST how far the copy is: interrupted, it goes on there, without listing all again')
    .option('--checkpoint-interval <time>', 'how often that is noted', '10s')
    .option('--checkpoint-force-reset', 'begin anew, whatever is noted')
    .addOption(new Option('--deleteSrc', 'the same as --delete-src').hideHelp())
    .addOption(new Option('--deleteDst', 'the same as --delete-dst').hideHelp())
    .addOption(new Option('--ignore-non-existing', 'the same as --existing').hideHelp())
    .addOption(output())
    .addHelpText('after', HELP)
    .action(
      run(async (options, source = '', destination = '') =>
        (await import('./sync.ts')).syncCommand(source, destination, { ...options, rules }),
      ),
    );
}
