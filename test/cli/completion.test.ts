/** The completion scripts, in the shells they are for. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { completionScript, type Shell } from '../../src/cli/completion.ts';
import { program } from '../../src/cli/program.ts';
import { ensureDebian, onPath, ToolMissing } from '../tools.ts';

const folder = mkdtempSync(join(tmpdir(), 'juicepod-completion-'));
let missing: string | undefined;
before(() => {
  try {
    ensureDebian('bash', 'zsh', 'fish');
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    missing = error.message;
  }
  for (const shell of ['bash', 'zsh', 'fish'] as const) writeFileSync(join(folder, shell), completionScript(shell, program()));
  writeFileSync(join(folder, 'plan.json'), '');
});
after(() => rmSync(folder, { recursive: true, force: true }));

const script = (shell: Shell): string => join(folder, shell);

/** What each shell offers for the words; the last one is being typed. */
const offers: Readonly<Record<Shell, (words: readonly string[]) => string>> = {
  bash: (words) =>
    `source ${script('bash')}; cd ${folder}; COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}; _juicepod; printf '%s\\n' "\${COMPREPLY[@]}"`,
  // What the completion system of an interactive shell would be told.
  zsh: (words) =>
    `cd ${folder}; compdef() { :; }; compadd() { shift; print -l -- "$@"; }; _files() { print -l -- *; }
     _describe() { local -a all; all=("\${(@P)2}"); local one; for one in $all; do print -r -- "\${one%%:*}"; done; }
     source ${script('zsh')}; words=(${words.map((word) => `'${word}'`).join(' ')}); CURRENT=${words.length}; _juicepod`,
  fish: (words) =>
    `cd ${folder}; source ${script('fish')}; complete -C '${words.join(' ')}' | string replace -r '\\t.*' ''; true`,
};

function complete(shell: Shell, context: TestContext, ...words: readonly string[]): readonly string[] | undefined {
  const path = onPath(shell);
  if (!path) {
    context.skip(missing ?? `${shell} was not found on PATH`);
    return undefined;
  }
  const args = shell === 'bash' ? ['--norc', '-c'] : shell === 'zsh' ? ['-f', '-c'] : ['--no-config', '-c'];
  const output = execFileSync(path, [...args, offers[shell](['juicepod', ...words])], {
    encoding: 'utf8',
    env: { ...process.env, HOME: folder },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const typed = words.at(-1) ?? '';
  return output
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && line.startsWith(typed))
    .toSorted();
}

for (const shell of ['bash', 'zsh', 'fish'] as const) {
  test(`${shell} completes commands, commands below commands, and options`, (context) => {
    const commands = complete(shell, context, 'm');
    if (!commands) return;
    assert.deepEqual(commands, ['mdtest', 'migrate', 'mount']);
    assert.deepEqual(complete(shell, context, 'cluster', ''), ['analyze', 'pods', 'status', 'volumes']);
    assert.deepEqual(complete(shell, context, 'mount', '--read-'), ['--read-only']);
    assert.deepEqual(complete(shell, context, 'cluster', 'pods', '--all'), ['--all-namespaces']);
    // An option of one command is not one of another.
    assert.deepEqual(complete(shell, context, 'status', '--read-'), []);
  });

  test(`${shell} completes what an option takes: choices, files, or nothing`, (context) => {
    const choices = complete(shell, context, 'analyze', '--output', '');
    if (!choices) return;
    assert.deepEqual(choices, ['json', 'text']);
    assert.deepEqual(complete(shell, context, 'completion', ''), ['bash', 'fish', 'zsh']);
    assert.deepEqual(complete(shell, context, 'mount', '--plan', 'pl'), ['plan.json']);
    assert.deepEqual(complete(shell, context, 'mount', '--attr-cache', ''), []);
    assert.deepEqual(complete(shell, context, 'play', 'pl'), ['plan.json']);
  });
}
