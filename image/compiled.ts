/**
 * Fills `compiled` in a bundle: V8's code of the processes of a pod, which a start then need not compile. It holds for this version of
 * Node, the options of `image/juicepod` and the user that fills it (root, as the sidecars are); others start without. Where it lies
 * does not matter, and it is only read: a root file system may be read-only.
 *
 * Usage: node image/compiled.ts BUNDLE NODE
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { root } from './take-along.ts';

/** What loads all of a process and ends at once: the client wants a socket. */
const starts: readonly (readonly string[])[] = [['hold', '--help'], ['serve']];

/** The options that `image/juicepod` starts every process of a mount with: code that was compiled with others is not used. */
function launcherOptions(): readonly string[] {
  const launcher = readFileSync(join(root, 'image', 'juicepod'), 'utf8');
  const memory = /^memory='([^']*)'/m.exec(launcher)?.[1];
  if (memory === undefined) throw new Error('image/juicepod says no options of Node');
  return [...memory.split(' '), '--disable-warning=ExperimentalWarning'];
}

/** `node` is the program that the bundle will be run with. */
export function fillCompiled(bundle: string, node: string): void {
  const folder = join(bundle, 'compiled');
  const env = { ...process.env, NODE_COMPILE_CACHE: folder, NODE_COMPILE_CACHE_PORTABLE: '1' };
  for (const start of starts) {
    const { error } = spawnSync(node, [...launcherOptions(), join(bundle, 'start.cjs'), ...start], { env, stdio: 'ignore' });
    if (error) throw error;
  }
  if (!existsSync(folder) || readdirSync(folder).length === 0) throw new Error(`${node} has left nothing in ${folder}`);
}

if (import.meta.main) {
  const [bundle, node] = process.argv.slice(2);
  if (!bundle || !node) throw new Error('usage: node image/compiled.ts BUNDLE NODE');
  fillCompiled(resolve(bundle), node);
}
