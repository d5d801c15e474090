/** `juicepod clone`: copies a file or tree of a mounted volume without copying its data. */
import { lstatSync, realpathSync } from 'node:fs';
import { UserError } from '../../lib/errors.ts';
import { requests } from '../../vfs/control/protocol.ts';
import { endingSignal, wholeNumberOf } from '../options.ts';
import { showProgress } from '../progress.ts';
import { type Output, print } from '../report.ts';
import { MountControl, requireDone } from './ask.ts';
import { absolute, argumentBytes, find, shown, split } from './paths.ts';

const SLASH = 0x2f;

interface Options {
  readonly preserve?: boolean;
  readonly threads: string;
  readonly output: Output;
}

export async function cloneCommand(from: string, to: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as Options;
  const threads = wholeNumberOf(options.threads, '--threads', 1, 255);
  const signal = endingSignal();
  const source = argumentBytes(from);
  const given = argumentBytes(to);
  const found = find(source);
  const origin = split(realpathSync(absolute(source), 'buffer'));
  const destination = given.at(-1) === SLASH ? Buffer.concat([given, split(source).name]) : given;
  const { folder, name } = split(destination);
  if (name.length > 255) throw new UserError('InvalidPath', `${shown(destination)}: a name has at most 255 bytes`);
  const parent = find(folder);
  if (lstatSync(absolute(destination), { throwIfNoEntry: false }))
    throw new UserError('AlreadyThere', `${shown(destination)} is there already`, {
      hint: 'Give a name that is not taken; a slash at its end stands for the name of the source in that directory.',
    });
  // Says so where it is none.
  if (parent.stat.dev !== found.stat.dev) await (await MountControl.open(found, signal))[Symbol.asyncDispose]();
  if (parent.stat.dev !== found.stat.dev)
    throw new UserError(
      'OtherMount',
      `${shown(destination)} does not lie in the mount of ${shown(source)}: a clone shares its data, and so lies in the same volume`,
      {
        hint: 'Copy it instead: juicepod sync --help',
      },
    );
  const whole = realpathSync(absolute(source), 'buffer');
  const target = Buffer.concat([realpathSync(folder, 'buffer'), Buffer.from('/')]);
  if (found.stat.isDirectory() && target.subarray(0, whole.length + 1).equals(Buffer.concat([whole, Buffer.from('/')])))
    throw new UserError('IntoItself', `${shown(destination)} lies in ${shown(source)}, which cannot be copied into itself`);
  await using control = await MountControl.open(parent, signal);
  let told = '';
  const progress = showProgress(() => told);
  let cloned = 0;
  try {
    const request = requests.clone({ inode: found.stat.ino, parent: find(origin.folder).stat.ino }, parent.stat.ino, name, {
      umask: process.umask(),
      preserve: options.preserve === true,
      threads,
    });
    const answer = await control.ask(request, (done, all) => {
      cloned = done;
      told = `${shown(source)}: ${done} of ${all} entries`;
    });
    requireDone(destination, answer);
  } catch (error) {
    if (error instanceof UserError && error.code === 'Interrupted')
      throw new UserError('Interrupted', `interrupted: nothing is there under ${shown(destination)}`);
    throw error;
  } finally {
    progress.end();
  }
  const result = { source: shown(source), destination: shown(destination), entries: cloned };
  print(options.output, result, `${result.destination}: ${cloned} ${cloned === 1 ? 'entry' : 'entries'} cloned`);
}
