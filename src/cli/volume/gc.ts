/** `juicepod gc`: objects that nothing refers to. */
import { stderrLogger } from '../logger.ts';
import { formatBytes } from '../../lib/units.ts';
import { type Amount, collectGarbage, type GarbageReport, newGarbageReport } from '../../maintenance/gc.ts';
import { withVolume } from './maintain.ts';
import { wholeNumberOf } from '../options.ts';
import { showProgress } from '../progress.ts';
import { columns, type Output, print } from '../report.ts';

interface GcOptions {
  readonly delete?: boolean;
  readonly compact?: boolean;
  readonly threads: string;
  readonly output: Output;
}

const MAX_THREADS = 1000;
/** Seconds; as collectGarbage has it. */
const USUAL_AGE = 3600;

/** Seconds of JFS_GC_SKIPPEDTIME, as for the official client. */
function minAge(environment: NodeJS.ProcessEnv): number | undefined {
  const text = environment['JFS_GC_SKIPPEDTIME'];
  return text ? wholeNumberOf(text, 'JFS_GC_SKIPPEDTIME', 0, Number.MAX_SAFE_INTEGER) : undefined;
}

const doing: Readonly<Record<GarbageReport['phase'], (report: GarbageReport) => string>> = {
  trash: ({ cleaned }) => `cleaning the trash: ${cleaned.trash} names removed`,
  files: ({ deletedFiles }) => `removed files: ${deletedFiles}`,
  compaction: ({ cleaned }) => `compacting: ${cleaned.chunks} chunks`,
  slices: ({ listed }) => `reading slices: ${listed}`,
  objects: ({ scanned, leaked }) => `listing objects: ${scanned}, ${leaked.objects} leaked`,
  leaked: ({ cleaned, leaked }) => `deleting leaked objects: ${cleaned.leaked} of ${leaked.objects}`,
  done: () => '',
};

export async function gcCommand(url: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as GcOptions;
  const { compact = false } = options;
  const removes = options.delete ?? false;
  const threads = wholeNumberOf(options.threads, '--threads', 1, MAX_THREADS);
  const age = minAge(process.env);
  const report = newGarbageReport();
  const logger = stderrLogger();
  await withVolume(url, { writing: removes || compact, readsBlocks: compact, logger }, async (opened) => {
    const line = showProgress(() => doing[report.phase](report));
    try {
      await collectGarbage({
        ...opened,
        delete: removes,
        compact,
        threads,
        report,
        ...(age === undefined ? {} : { minAge: age }),
      });
    } finally {
      line.end();
    }
  });
  print(options.output, shown(report), text(report, removes, age ?? USUAL_AGE));
  const left = report.leaked.objects - report.cleaned.leaked;
  if (left > 0 && !removes)
    process.stderr.write(`juicepod: ${left} objects are leaked\n  Delete them with: juicepod gc META-URL --delete\n`);
}

/** Without what only counts while it is under way. */
function shown({ phase: _phase, ...report }: GarbageReport): unknown {
  return report;
}

function text(report: GarbageReport, removed: boolean, minAge: number): string {
  const amount = (name: string, { objects, bytes }: Amount): readonly string[] => [name, String(objects), formatBytes(bytes)];
  const { cleaned } = report;
  const rows: (readonly string[])[] = [
    ['OBJECTS', 'COUNT', 'SIZE'],
    amount('valid', report.valid),
    amount('waiting to be deleted', report.pendingDelete),
    amount('replaced by compaction, kept', report.compacted),
    amount('leaked', report.leaked),
    amount('too young to tell', report.skipped),
    ...(report.foreign.objects > 0 ? [amount('not of this volume', report.foreign)] : []),
  ];
  const only = (count: number, fact: string): readonly string[] => (count > 0 ? [fact] : []);
  const facts = [
    ...only(
      report.skipped.objects,
      `Objects younger than ${minAge} s are too young to tell: they may be of writes under way (JFS_GC_SKIPPEDTIME changes that).`,
    ),
    ...only(
      report.deletedFiles,
      `${report.deletedFiles} removed files whose data waits to be deleted (${formatBytes(report.deletedFileBytes)})`,
    ),
    ...only(report.replaced, `${report.replaced} slices kept after compaction (${formatBytes(report.replacedBytes)})`),
    ...only(report.strayChunks, `${report.strayChunks} files that have data and do not exist`),
  ];
  const deleted = [
    ...only(cleaned.leaked, `${cleaned.leaked} leaked objects`),
    ...only(cleaned.files, `the data of ${cleaned.files} removed files`),
    ...only(cleaned.slices, `${cleaned.slices} slices without a reference`),
    ...only(cleaned.replaced, `${cleaned.replaced} slices kept after compaction`),
    ...only(cleaned.trash, `${cleaned.trash} names in the trash`),
    ...only(cleaned.strayChunks, `the data of ${cleaned.strayChunks} files that do not exist`),
  ];
  return [
    columns(rows),
    facts.map((fact) => `${fact}\n`).join(''),
    removed ? (deleted.length > 0 ? `Deleted: ${deleted.join(', ')}.\n` : 'There was nothing to delete.\n') : '',
    cleaned.chunks > 0 ? `Compacted ${cleaned.chunks} chunks.\n` : '',
  ].join('');
}
