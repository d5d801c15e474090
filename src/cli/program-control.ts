/** Commands that work on a mounted volume through the client that serves it, as they are declared. */
import type { Command } from 'commander';
import { output, run } from './program-parts.ts';

const many = (paths: unknown): readonly string[] => paths as readonly string[];

/** `info`, `summary`, `rmr`, `clone`, `warmup`, `compact`, with the options of `juicefs`. */
export function addControl(juicepod: Command): void {
  juicepod
    .command('info')
    .summary('show what a file or directory of a mounted volume is made of')
    .description(
      'Shows what a file or directory of a mounted volume takes, its paths, its objects and who has locked it. Of directories it says what is recorded, which may be a second behind; --strict counts.',
    )
    .argument('<PATH...>')
    .option('-i, --inode', 'PATH is an inode number; the current directory lies in the volume')
    .option('-r, --recursive', 'count everything below a directory')
    .option('--strict', 'look at every file, not at what is recorded of directories (slow for a large tree)')
    .option('--raw', 'show the slices of a file, not its objects')
    .addOption(output())
    .action(run(async (options, paths) => (await import('./control/info.ts')).infoCommand(many(paths), options)));

  juicepod
    .command('summary')
    .summary('show the largest parts of a directory of a mounted volume')
    .description(
      'Shows what a directory of a mounted volume and its largest entries take, as deep as asked for. It says what is recorded of directories, which may be a second behind; --strict counts.',
    )
    .argument('<PATH>')
    .option('-d, --depth <levels>', 'levels of directories that are shown, 0 to 10', '2')
    .option('-e, --entries <count>', 'entries of each directory that are shown, 0 to 100; the others are added up as ...', '10')
    .option('--strict', 'look at every file, not at what is recorded of directories (slow for a large tree)')
    .option('--csv', 'print comma-separated values, sizes in bytes')
    .addOption(output())
    .action(run(async (options, path = '') => (await import('./control/summary.ts')).summaryCommand(path, options)));

  juicepod
    .command('rmr')
    .summary('remove directories of a mounted volume with all that is in them')
    .description(
      'Removes files and directories of a mounted volume with all that is in them, faster than rm -r: the client does it. What is removed goes to the trash, where the volume has one. Interrupted it stops; run again it removes the rest.',
    )
    .argument('<PATH...>')
    .option('--skip-trash', 'do not keep it in the trash (root alone)')
    .option('-p, --threads <count>', 'removals at once, 1 to 255', '50')
    .addOption(output())
    .action(run(async (options, paths) => (await import('./control/rmr.ts')).rmrCommand(many(paths), options)));

  juicepod
    .command('clone')
    .summary('copy a file or directory of a mounted volume without copying its data')
    .description(
      'Copies a file or directory within a mounted volume. Only names and attributes are copied: source and copy share their data until one of them is written to. A directory appears when it is whole. Names of one file (hard links) become files of their own.',
    )
    .argument('<SRC>')
    .argument('<DST>', 'a name that is not taken; with a slash at its end, the directory that the copy goes into')
    .option('-p, --preserve', 'keep owner, mode and times; else the copy is yours, and new')
    .option('--threads <count>', 'directories, or groups of files, at once, 1 to 255', '4')
    .addOption(output())
    .action(run(async (options, from = '', to = '') => (await import('./control/clone.ts')).cloneCommand(from, to, options)));

  juicepod
    .command('warmup')
    .summary('bring files of a mounted volume into the cache')
    .description(
      'Brings files, and all files of directories, of a mounted volume into the cache of the client that serves it, drops them from it, or tells how much of them is there.',
    )
    .argument('[PATH...]')
    .option('-f, --file <list>', 'file with one path a line, or - for standard input')
    .option('-p, --threads <count>', 'blocks at once; memory bounds them, too', '50')
    .option('-b, --background', 'do not wait: the client goes on by itself')
    .option('--evict', 'drop them from the cache; what is not uploaded yet stays')
    .option('--check', 'tell how much of them is in the cache')
    .addOption(output())
    .action(run(async (options, paths) => (await import('./control/warmup.ts')).warmupCommand(many(paths), options)));

  juicepod
    .command('compact')
    .summary('merge what files of a mounted volume were written in')
    .description(
      'Merges the slices of files that were written in many small parts, so that they are read in large ones. Programs may read and write them meanwhile. Interrupted it stops; run again it goes on.',
    )
    .argument('<PATH...>')
    .option('-p, --threads <count>', 'chunks at once', '10')
    .addOption(output())
    .action(run(async (options, paths) => (await import('./control/compact.ts')).compactCommand(many(paths), options)));
}
