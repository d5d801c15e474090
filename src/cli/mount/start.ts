/**
 * The command line as whoever mounts calls it: declares `mount` alone, for the declarations of all others take as long as the rest
 * of the command. What is not simply a mount (help, mistakes) is left to the whole program.
 */
import { Command, CommanderError } from 'commander';
import { endCommand } from '../../lib/end-process.ts';
import { addMount } from '../program-mount.ts';

export async function startMount(argv: readonly string[]): Promise<void> {
  const silent = { writeOut() {}, writeErr() {} };
  const juicepod = new Command('juicepod').exitOverride().configureOutput(silent);
  addMount(juicepod);
  try {
    await juicepod.parseAsync(argv);
    await endCommand();
  } catch (error) {
    // Thrown before anything has been done.
    if (!(error instanceof CommanderError)) throw error;
    const { main } = await import('../program.ts');
    await main(argv);
  }
}
