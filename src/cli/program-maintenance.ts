/** The commands that look after a volume, as they are declared. */
import type { Command } from 'commander';
import { output, run } from './program-parts.ts';

/** `gc`, `fsck`, `restore`, `destroy`, with the options of the official client's. */
export function addMaintenance(juicepod: Command): void {
  juicepod
    .command('gc')
    .summary('find objects that nothing refers to, and delete them')
    .description(
      'Compares the objects in the store with what the metadata names, and tells of leaked objects and of data that waits to be deleted. Nothing is changed without --delete or --compact. Objects younger than an hour are left alone (seconds in env JFS_GC_SKIPPEDTIME). Clients may go on working.',
    )
    .argument('<META-URL>')
    .option('--delete', 'delete leaked objects, and what waits to be deleted; trash that is over, too')
    .option('--compact', 'merge the slices of every chunk that has several')
    .option('-p, --threads <count>', 'deletions and compactions at a time', '10')
    .addOption(output())
    .action(run(async (options, url = '') => (await import('./volume/gc.ts')).gcCommand(url, options)));

  juicepod
    .command('fsck')
    .summary('check that a volume is whole')
    .description(
      'Checks that every block of every file is in the object store, with the right size. With --path checks a directory (link count, statistics, what its entries name) or a file (its blocks); with --recursive everything below. Ends with 1 where something is broken, and is not repaired.',
    )
    .argument('<META-URL>')
    .option('--path <path>', 'what is checked, from the root of the volume on')
    .option('-r, --recursive', 'with --path: everything below it')
    .option('--repair', 'with --path: mend what can be mended; best done while nobody writes')
    .option('--sync-dir-stat', 'with --path: compare the statistics of directories with what is there (slow for large trees)')
    .option('--repair-dir-mode <mode>', 'permissions of directories whose attributes are lost and made anew, octal', '0755')
    .option('-p, --threads <count>', 'objects looked up at a time', '20')
    .addOption(output())
    .action(run(async (options, url = '') => (await import('./volume/fsck.ts')).fsckCommand(url, options)));

  juicepod
    .command('restore')
    .summary('bring back what lies in the trash')
    .description(
      'Rebuilds the trees that were removed in these hours, in the trash itself, where they can be looked at and moved (.trash of a mount). With --put-back restores everything to where it was; what has another name in its way stays in the trash, and is told of. Ends with 1 where something stays.',
    )
    .argument('<META-URL>')
    .argument('<HOUR...>', 'hours of the trash, UTC: 2026-01-31-09')
    .option('--put-back', 'restore to where it was')
    .option('--threads <count>', 'names restored at a time', '10')
    .addOption(output())
    .action(
      run(async (options, url = '', hours = '') =>
        (await import('./volume/restore.ts')).restoreCommand(url, hours as unknown as readonly string[], options),
      ),
    );

  juicepod
    .command('destroy')
    .summary('delete a volume: all its objects and its metadata')
    .description(
      'Deletes all objects below the name of the volume in its bucket, then its metadata. Refuses while the volume is mounted, and asks first. Interrupted, it is run again to go on.',
    )
    .argument('<META-URL>')
    .argument('<UUID>', 'UUID of the volume, as juicepod status shows it')
    .option('-y, --yes', 'do not ask')
    .option('--force', 'neither ask nor look for mounts; the metadata also where the bucket is gone, or objects are left')
    .addOption(output())
    .action(
      run(async (options, url = '', uuid = '') => (await import('./volume/destroy.ts')).destroyCommand(url, uuid, options)),
    );
}
