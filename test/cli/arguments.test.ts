/** Arguments, right and wrong, of every command: exit codes, sentences, JSON. Nothing is mounted here. */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Command } from 'commander';
import { program } from '../../src/cli/program.ts';
import { inScratch, refuses, refusesInJson, run, succeeds } from './command.ts';

const COMMANDS = [
  'format',
  'config',
  'mount',
  'umount',
  'status',
  'info',
  'inject',
  'play',
  'operator',
  'webhook',
  'hold',
] as const;

test('--help names every command, and each command explains itself', async () => {
  const all = await succeeds(['--help']);
  for (const command of COMMANDS) {
    assert.match(all, new RegExp(`^ {2}${command} `, 'm'));
    assert.match(await succeeds([command, '--help']), new RegExp(`juicepod ${command}`));
  }
  assert.match(await succeeds(['--version']), /^\d+\.\d+\.\d+$/m);
  const { code, stderr } = await run([]);
  assert.equal(code, 1);
  assert.match(stderr, /^Usage: juicepod/);
});

test('the help of every command says what it does, explains its arguments, and fits a screen of 80 columns', () => {
  const outputs: string[] = [];
  const look = (command: Command, path: string): void => {
    command.configureOutput({ writeOut: (text) => void outputs.push(text), getOutHelpWidth: () => 80 });
    outputs.length = 0;
    command.outputHelp();
    const help = outputs.join('');
    assert.deepEqual(
      help.split('\n').filter((line) => line.length > 80),
      [],
      path,
    );
    assert.match(command.description(), /^[A-Z"].*[^ ]/s, path);
    for (const option of command.options) assert.ok(option.description !== '', `${path} ${option.flags}`);
    for (const child of command.commands) look(child, `${path} ${child.name()}`);
  };
  look(program(true), 'juicepod');
});

test('-o is short for --output, with errors as JSON too', async () => {
  await inScratch(async (folder) => {
    const url = `sqlite3://${join(folder, 'a.db')}`;
    await succeeds(['format', url, 'vol-a', '--bucket', join(folder, 'objects'), '-o', 'json']);
    assert.equal(typeof JSON.parse(await succeeds(['config', url, '-ojson'])), 'object');
    const { stderr } = await run(['status', '-o', 'json']);
    assert.equal((JSON.parse(stderr) as { error: { code: string } }).error.code, 'InvalidArguments');
  });
});

test('an unknown command, option, value or a missing argument is named', async () => {
  await refuses(['mend'], /unknown command 'mend'/);
  for (const command of COMMANDS)
    await refuses([command, ...(command === 'inject' ? ['-f', 'x'] : []), '--bogus'], /unknown option '--bogus'/i);
  await refuses(['format', 'sqlite3://x'], /missing required argument 'NAME'/);
  await refuses(['umount'], /missing required argument 'MOUNTPOINT'/);
  await refuses(['status'], /missing required argument 'META-URL'/);
  await refuses(['inject'], /required option '-f, --filename/);
  await refuses(['status', 'sqlite3://x', '--output', 'xml'], /Allowed choices are text, json/);
  await refuses(['mount', 'sqlite3:///x.db'], /needs META-URL and MOUNTPOINT/);
  await refuses(['hold'], /--socket is missing/);
  await refuses(['mount', '--plan', '/no/plan.json', '--socket', '/no/hold.sock'], /plan \/no\/plan.json cannot be read/);
});

test('with --output json wrong arguments are told as JSON, too', async () => {
  await refusesInJson(['mend'], 'InvalidArguments');
  await refusesInJson(['format', 'sqlite3://x'], 'InvalidArguments');
  await refusesInJson(['umount', '--bogus', '/mnt'], 'InvalidArguments');
});

test('values of options are checked before anything is done', async () => {
  await inScratch(async (folder) => {
    const url = `sqlite3://${join(folder, 'a.db')}`;
    const bucket = ['--bucket', join(folder, 'objects')];
    for (const [args, wanted] of [
      [['ab'], /3 to 63 lower-case letters/],
      [['Upper'], /3 to 63 lower-case letters/],
      [['vol-a', '--trash-days', 'x'], /--trash-days: wanted a number from 0/],
      [['vol-a', '--trash-days', '1.5'], /--trash-days: wanted a whole number/],
      [['vol-a', '--trash-days=-1'], /--trash-days: wanted a number from 0/],
      [['vol-a', '--block-size', 'big'], /--block-size: wanted a size/],
      [['vol-a', '--block-size', '0'], /block size should be/],
      [['vol-a', '--compress', 'gzip'], /compression should be one of none, lz4, zstd/],
      [['vol-a', '--storage', 'ftp'], /storage "ftp" is not supported/],
    ] as const)
      await refuses(['format', url, ...args, ...bucket], wanted);
    await succeeds(['format', url, 'vol-a', ...bucket]);
    for (const [args, wanted] of [
      [['--attr-cache', 'soon'], /--attr-cache: wanted a duration/],
      [['--buffer-size', 'much'], /--buffer-size: wanted a size/],
      [['--max-uploads', '0'], /--max-uploads: wanted a number from 1/],
      [['--max-uploads', '1.5'], /--max-uploads: wanted a whole number/],
      [['--io-retries', 'x'], /--io-retries: wanted a number/],
      [['--free-space-ratio', '2'], /--free-space-ratio: wanted a number from 0/],
      [['--writeback', '--cache-dir', 'memory'], /--writeback needs a cache directory on disk/],
      [['--writeback', '--cache-size', '0'], /--writeback needs a cache directory on disk/],
      [['--writeback', '--upload-delay', 'later'], /--upload-delay: wanted a duration/],
      [['--writeback', '--staging-size', 'all'], /--staging-size: wanted a size/],
      [['--upload-limit', '10K'], /--upload-limit: wanted Mbit/],
      [['--max-metadata-ops', '-1'], /--max-metadata-ops: wanted a number from 0/],
      [['-o', 'frob'], /-o frob: wanted allow_other or ro/],
    ] as const)
      await refuses(['mount', url, join(folder, 'mnt'), '--cache-dir', join(folder, 'cache'), ...args], wanted);
  });
});

test('a metadata URL that cannot be is explained, and a database that is not there is not made by looking for it', async () => {
  await inScratch(async (folder) => {
    await refuses(['status', 'etcd://host/db'], /no metadata engine for "etcd:\/\/"/);
    await refuses(['status', `${folder}/some.db`], /it is a path; a SQLite database is named sqlite3:/);
    await refuses(['format', `sqlite3://${folder}/no/such.db`, 'vol-a'], /folder .* does not exist/);
    const missing = join(folder, 'none.db');
    await refuses(['status', `sqlite3://${missing}`], /no SQLite database at/);
    await refuses(['mount', `sqlite3://${missing}`, join(folder, 'mnt')], /no SQLite database at/);
    assert.equal(existsSync(missing), false);
    const text = join(folder, 'text.db');
    writeFileSync(text, 'this is no database, however long it may go on; SQLite wants its own header.'.repeat(20));
    await refuses(['status', `sqlite3://${text}`], /no SQLite database, or a damaged one/);
    await refusesInJson(['status', `sqlite3://${text}`], 'NotADatabase');
  });
});

test('files and folders that are missing or hold nothing are named', async () => {
  await inScratch(async (folder) => {
    await refuses(['info', '/no/such/file'], /no such file or directory/);
    await refuses(['info', folder], /does not lie in a mounted volume/);
    await refuses(['info', '--inode', 'abc'], /wanted an inode number/);
    await refuses(['inject', '-f', '/no/pod.yaml'], /\/no\/pod.yaml/);
    await refuses(['play', '/no/folder'], /\/no\/folder/);
    await refuses(['play', folder], /holds no .yaml file/);
    await refuses(['operator', '--kubeconfig', '/no/config'], /\/no\/config/);
    await refuses(['webhook', '--kubeconfig', '/no/config'], /\/no\/config/);
    await refuses(['umount', folder], /is not a mounted volume/);
    await refuses(['umount', join(folder, 'no/such')], /is not a mounted volume/);
    await refusesInJson(['umount', folder], 'NotMounted');
    await refusesInJson(['info', folder], 'NotMounted');
  });
});
