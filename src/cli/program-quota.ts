/** `juicepod quota`, as it is declared. */
import type { Command } from 'commander';
import { output, run } from './program-parts.ts';
import type { QuotaAction } from './volume/quota.ts';

/** `quota` and what it does, with the options of `juicefs quota`. */
export function addQuota(juicepod: Command): void {
  const quota = juicepod
    .command('quota')
    .summary('limit what directories, users and groups may hold')
    .description(
      'Quotas are enforced with "disk quota exceeded" by every client, juicepod or juicefs, that has the volume mounted; they notice a change within a heartbeat (12 s). Of the whole volume: juicepod config --capacity --inodes.',
    );
  const action = (name: QuotaAction, summary: string): Command =>
    quota
      .command(name)
      .summary(summary)
      .argument('<META-URL>')
      .option('--path <directory>', 'a directory of the volume, from its root on')
      .option('--uid <user>', 'a user, by number')
      .option('--gid <group>', 'a group, by number')
      .addOption(output())
      .action(run(async (options, url = '') => (await import('./volume/quota.ts')).quotaCommand(name, url, options)));
  action('set', 'set or change a quota')
    .option('--capacity <size>', 'what may be held, in GiB or with a unit (500M, 2T); 0 is no limit')
    .option('--inodes <count>', 'files and directories that may be held; 0 is no limit')
    .option('--create', 'make the directory where it is missing, for everybody to write into')
    .option('--owner <user:group>', 'with --create: whose it is, in numbers (1000:1000)')
    .option('--permissions <mode>', 'with --create: its permissions, octal (default with --owner: 0755)')
    .option('--strict', 'count every file of a directory, not its statistics (slow for a large one)');
  action('get', 'show one quota and what is used of it');
  action('list', 'show all quotas and what is used of them').alias('ls');
  action('delete', 'remove a quota').alias('del');
  action('check', 'compare what is recorded as used with what is there')
    .option('--repair', 'record what is there')
    .option('--strict', 'count every file of a directory, not its statistics (slow for a large one)');
}
