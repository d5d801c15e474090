/** The process that holds a mount on this machine, and keeps a client running for it. Loads next to nothing: it only waits. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Holder, plainLogger } from '../../client/hold.ts';
import { HEARTBEAT_PATH, supervise } from '../../client/hold-supervise.ts';
import { whenIdle } from '../../client/idle.ts';
import { giveBackMemory } from '../../fuse/resident.ts';
import { systemClock } from '../../lib/clock.ts';
import { endingSignal } from '../options.ts';
import { stuckCalls, endProcess } from '../../lib/stuck.ts';
import { explain } from '../report.ts';
import { removeMade } from './mount-point.ts';
import { readSettings } from './settings.ts';

/**
 * `juicepod supervise URL TARGET`: `named` are those two, for who looks at processes; the settings are in the environment. Mount points
 * that the mount command made are removed where nothing was ever mounted.
 */
export async function superviseCommand(named: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-hold-'));
  const socket = join(folder, 'hold.sock');
  const log = plainLogger();
  const ending = endingSignal();
  let mounted = false;
  let code = 1;
  try {
    const onPut = (): void => void (mounted = true);
    const holder = await Holder.start({ socket, targets: [], guard: false, log: { ...log, info() {} }, onPut });
    whenIdle({ clock: systemClock, giveBack: giveBackMemory });
    const own = ['--socket', socket, '--heartbeat', HEARTBEAT_PATH];
    const args = [...process.execArgv, process.argv[1] ?? '', 'serve', ...named, ...own];
    code = await supervise({ command: process.execPath, args, env, holder, clock: systemClock, log }, ending);
  } catch (error) {
    process.stderr.write(explain(error));
  } finally {
    rmSync(folder, { recursive: true, force: true });
    if (!mounted) removeMade(readSettings(env).made ?? []);
  }
  process.exitCode = code;
  // The mount command, which this process was, may have asked a disk that does not answer: it would not end by itself.
  if (stuckCalls() > 0) endProcess(code);
}
