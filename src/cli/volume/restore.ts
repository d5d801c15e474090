/** `juicepod restore`: brings back what lies in the trash. */
import { UserError } from '../../lib/errors.ts';
import { type LeftReason, newRestoreReport, restoreHour, type RestoreReport } from '../../meta/maintenance/restore.ts';
import { stderrLogger } from '../logger.ts';
import { printable, withVolume } from './maintain.ts';
import { wholeNumberOf } from '../options.ts';
import { showProgress } from '../progress.ts';
import { type Output, print } from '../report.ts';

interface RestoreOptions {
  readonly putBack?: boolean;
  readonly threads: string;
  readonly output: Output;
}

const MAX_THREADS = 1000;
/** Names of what is left that are shown for people. */
const SHOWN = 20;

export async function restoreCommand(
  url: string,
  hours: readonly string[],
  raw: Readonly<Record<string, unknown>>,
): Promise<void> {
  const { putBack = false, threads: text, output } = raw as unknown as RestoreOptions;
  const threads = wholeNumberOf(text, '--threads', 1, MAX_THREADS);
  const reports: { readonly hour: string; readonly report: RestoreReport }[] = [];
  await withVolume(url, { writing: true, logger: stderrLogger() }, async ({ volume, signal }) => {
    for (const hour of hours) {
      const report = newRestoreReport();
      const line = showProgress(() => `${hour}: ${report.restored} restored, ${report.conflicts + report.failed} left`);
      try {
        await restoreHour(hour, { volume, putBack, threads, report, signal });
      } finally {
        line.end();
      }
      reports.push({ hour, report });
    }
  });
  print(output, reports.map(shown), reports.map((each) => sentences(each, putBack)).join(''));
  const left = reports.reduce((all, { report }) => all + report.conflicts + report.failed, 0);
  if (left === 0) return;
  throw new UserError('NotRestored', `${left} could not be restored, and lie in the trash as before`, {
    hint: 'In a mount they are in .trash: move them to where they shall be.',
  });
}

function shown({ hour, report }: { readonly hour: string; readonly report: RestoreReport }): unknown {
  return { hour, ...report, left: report.left.map(({ name, reason, detail }) => ({ name: printable(name), reason, detail })) };
}

const words: Readonly<Record<LeftReason, string>> = {
  conflict: 'in the way',
  'no directory': 'no directory',
  'no trash name': 'no trash name',
  failed: 'failed',
};

function sentences({ hour, report }: { readonly hour: string; readonly report: RestoreReport }, putBack: boolean): string {
  const { restored, needPutBack, cut, left } = report;
  return [
    putBack
      ? `${hour}: ${restored} restored.\n`
      : `${hour}: in the trash itself, ${restored} put back into directories that were removed with them.\n`,
    needPutBack > 0
      ? `  ${needPutBack} belong to directories that are there (with all that lies in them now): restore them with --put-back\n`
      : '',
    cut > 0 ? `  ${cut} of them have names that the trash may have cut\n` : '',
    ...left.slice(0, SHOWN).map(({ name, reason, detail }) => `  ${words[reason]}: ${printable(name)}: ${detail}\n`),
    left.length > SHOWN ? `  … and ${left.length - SHOWN} more\n` : '',
  ].join('');
}
