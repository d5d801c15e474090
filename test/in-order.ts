/**
 * Runs test files, begun in the order in which they are named (`node --test` sorts them): `in-order.ts RESULTS CONCURRENCY SECONDS FILE …`.
 * Shows what they say, and writes a line of JSON per test to RESULTS (reporter.ts). A test or suite may take SECONDS, a file three times
 * that. Exits with 1 where any failed. Told to end (SIGTERM) it names what is under way, and ends it.
 */
import { createWriteStream } from 'node:fs';
import { relative, resolve } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import reporter from './reporter.ts';

const [results = '', concurrency = '1', seconds = '900', ...files] = process.argv.slice(2);
const deadline = new URL(`deadline.ts?seconds=${3 * Number(seconds)}`, import.meta.url).href;
const ending = new AbortController();
const events = run({
  files: files.map((file) => resolve(file)),
  concurrency: Number(concurrency),
  timeout: Number(seconds) * 1000,
  execArgv: ['--disable-warning=ExperimentalWarning', '--import', deadline],
  signal: ending.signal,
});
events.on('test:fail', ({ todo }) => {
  if (todo === undefined || todo === false) process.exitCode = 1;
});

/** What has begun and not ended, by file. */
const underWay = new Map<string, Set<string>>();
events.on('test:dequeue', ({ file = '', name }) => underWay.set(file, (underWay.get(file) ?? new Set()).add(name)));
events.on('test:complete', ({ file = '', name }) => {
  if (name === file) underWay.delete(file);
  else underWay.get(file)?.delete(name);
});
process.once('SIGTERM', () => {
  process.exitCode = 1;
  console.log('Ended before all was done. Under way were:');
  for (const [file, names] of underWay)
    console.log([relative('', file), ...[...names].filter((name) => name !== file)].join('\n  - '));
  ending.abort();
});

events.compose(new spec()).pipe(process.stdout);
events.compose(reporter).pipe(createWriteStream(results));
