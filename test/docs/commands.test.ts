/**
 * Every `juicepod …` that a page shows exists: its command, and each of its options. (That they do what the page says is for the tests of
 * the commands.) Looked at is what stands in code: between backticks, and in blocks of a shell.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Command } from 'commander';
import { program } from '../../src/cli/program.ts';

const root = join(import.meta.dirname, '..', '..');
/** These two parse their arguments by themselves, for they start many times. */
const OWN_PARSER = new Set(['hold', 'sync-sidecar']);

/** Command lines of a page, without what a shell does around them. */
function linesOf(page: string): readonly string[] {
  const blocks = [...page.matchAll(/```(?:sh|bash|console)\n([\s\S]*?)```/g)].flatMap(([, block = '']) =>
    block.replaceAll(/\\\n\s*/g, ' ').split('\n'),
  );
  const inline = [...page.replaceAll(/```[\s\S]*?```/g, '').matchAll(/`([^`]+)`/g)].map(([, text = '']) =>
    text.replaceAll('\n', ' '),
  );
  return [...blocks, ...inline].flatMap((text) => {
    const line = /(?:^|\s|\()(?:bin\/|kubectl )?juicepod ([a-z-].*)$/.exec(text.replace(/\s+#.*$/, ''))?.[1];
    // What is piped on, or follows, is another program's.
    return line === undefined ? [] : [`${/kubectl juicepod/.test(text) ? 'cluster ' : ''}${line.split(/ [|>&;] ?|\)/)[0]}`];
  });
}

/** What is wrong with a command line; undefined where nothing is. */
function problemOf(line: string): string | undefined {
  const words = line
    .replaceAll(/"[^"]*"|'[^']*'/g, 'QUOTED')
    .split(/\s+/)
    .filter(Boolean);
  let command: Command = program(true);
  while (words[0] !== undefined && !words[0].startsWith('-') && command.commands.length > 0) {
    const [name] = words;
    const next = command.commands.find((each) => each.name() === name || each.aliases().includes(name));
    if (!next) return /^[a-z-]+$/.test(name) ? `there is no command ${command.name()} ${name}` : undefined;
    command = next;
    words.shift();
  }
  if (OWN_PARSER.has(command.name())) return undefined;
  const known = new Set(['--help', '-h', ...command.options.flatMap(({ short, long }) => [short, long])]);
  const unknown = words
    .filter((word) => /^--?[a-z]/.test(word))
    .map((word) => word.replace(/[=,.:].*$/, ''))
    .find((word) => !known.has(word));
  return unknown === undefined ? undefined : `${command.name()} has no option ${unknown}`;
}

// The design names commands that are to come.
const docs = readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md') && name !== 'architecture.md');
const pages = ['README.md', ...docs.map((name) => join('docs', name))];

test('every command that a page shows exists, with each of its options', () => {
  let count = 0;
  const wrong = pages.flatMap((page) =>
    linesOf(readFileSync(join(root, page), 'utf8')).flatMap((line) => {
      count++;
      const problem = problemOf(line);
      return problem === undefined ? [] : [`${page}: juicepod ${line}: ${problem}`];
    }),
  );
  assert.deepEqual(wrong, []);
  assert.ok(count > 40, `only ${count} command lines were found`);
});

test('no page and no help sends a command into the client’s container, which could not end while that waits for a mount', () => {
  const texts = readdirSync(join(root, 'src/cli'), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
  const wrong = [...pages, ...texts.map((name) => join('src/cli', name))].filter((file) =>
    /-c juicepod-client -- juicepod/.test(readFileSync(join(root, file), 'utf8')),
  );
  assert.deepEqual(wrong, []);
});

test('a command, or an option, that does not exist is noticed', () => {
  const page =
    'See `juicepod mend x`, `juicepod inject -f pod.yaml --diff`.\n```sh\nkubectl juicepod pods --all\njuicepod quota ls URL # fine\n```\n';
  assert.deepEqual(linesOf(page).map(problemOf), [
    'pods has no option --all',
    undefined,
    'there is no command juicepod mend',
    'inject has no option --diff',
  ]);
});
