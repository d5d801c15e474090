/** `juicepod compact`: merges the slices of files of a mounted volume that were written in many small parts. */
import { requests } from '../../vfs/control/protocol.ts';
import { endingSignal, wholeNumberOf } from '../options.ts';
import { showProgress } from '../progress.ts';
import { type Output, print } from '../report.ts';
import { MountControl, requireDone } from './ask.ts';
import { argumentBytes, find, shown } from './paths.ts';

interface Options {
  readonly threads: string;
  readonly output: Output;
}

export async function compactCommand(paths: readonly string[], raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as Options;
  const threads = wholeNumberOf(options.threads, '--threads', 1, 65_535);
  const signal = endingSignal();
  const done: { path: string; chunks: number }[] = [];
  let told = '';
  const progress = showProgress(() => told);
  try {
    for (const text of paths) {
      const target = find(argumentBytes(text));
      await using control = await MountControl.open(target, signal);
      let chunks = 0;
      const answer = await control.ask(requests.compact(target.stat.ino, threads), (found, finished) => {
        chunks = finished;
        told = `${shown(target.path)}: ${finished} of ${found} chunks`;
      });
      requireDone(target.path, answer);
      done.push({ path: shown(target.path), chunks });
    }
  } finally {
    progress.end();
  }
  print(
    options.output,
    done,
    done.map(({ path, chunks }) => `${path}: ${chunks} chunks looked at; those in many pieces were merged\n`).join(''),
  );
}
