/** `juicepod dump` and `juicepod load`, as they are declared. */
import { type Command, Option } from 'commander';
import { output, run } from './program-parts.ts';

export function addDump(juicepod: Command): void {
  juicepod
    .command('dump')
    .summary('write the metadata of a volume to a file')
    .description(
      'Writes names, attributes and all other metadata of a volume (not the contents of its files) to a file, as JSON or, smaller and faster, in a binary format. Both are those of juicefs: either client loads what the other has dumped. Made while the volume is in use, a dump may hold changes of that time in part; for an exact one, unmount it first.\n\nA backup:        juicepod dump redis://localhost/1 meta.json.gz\nFor moving:      juicepod dump --binary --keep-secret-key redis://localhost/1 meta.bin\nOne directory:   juicepod dump redis://localhost/1 --subdir /projects/a',
    )
    .argument('<META-URL>')
    .argument('[FILE]', 'file to write, compressed where its name ends in .gz or .zstd (default: standard output)')
    .option('--binary', 'the binary format')
    .option('--subdir <path>', 'only what is below this directory (JSON)')
    .option('--skip-trash', 'leave out the trash (JSON)')
    .option('--keep-secret-key', 'keep the keys of the object store, and with --binary that of the encryption: guard the file')
    .option('--threads <count>', 'requests to the database at once', '10')
    .addOption(new Option('--fast', 'accepted for juicefs; every dump is streamed').hideHelp())
    .addOption(output())
    .action(run(async (options, url = '', file) => (await import('./volume/dump.ts')).dumpCommand(url, file, options)));

  juicepod
    .command('load')
    .summary('make a volume in an empty database of a dump')
    .description(
      'Loads what dump (or juicefs dump) has written into an empty database, of any kind. The volume keeps its objects and its UUID: do not use the new database and the old one at the same time. Where it fails or is interrupted, what it has written is removed again.\n\nRestore:         juicepod load redis://localhost/2 meta.json.gz\nOther database:  juicepod load --binary postgres://user@host/db meta.bin\nWhat is in it:   juicepod load --stat --binary meta.bin',
    )
    .argument('<META-URL>')
    .argument('[FILE]', 'file to read, .gz and .zstd are decompressed (default: standard input)')
    .option('--binary', 'the dump was made with --binary')
    .option('--stat', 'show what is in a binary dump, without a database: juicepod load --stat --binary FILE')
    .option('--offset <bytes>', 'with --stat: show the segment that begins there; -1 lists where they begin')
    .option('--restart', 'remove what a load that was killed has left in the database, and begin again')
    .option(
      '--encrypt-rsa-key <file>',
      'the dump is an object of an encrypted volume: PEM of its key, passphrase in env JFS_RSA_PASSPHRASE',
    )
    .option('--encrypt-algo <algorithm>', 'how it is encrypted: aes256gcm-rsa or chacha20-rsa', 'aes256gcm-rsa')
    .addOption(new Option('--threads <count>', 'accepted for juicefs; records are written in bulk').hideHelp())
    .addOption(output())
    .action(run(async (options, url = '', file) => (await import('./volume/load.ts')).loadCommand(url, file, options)));
}
