/**
 * Runs test files, begun in the order in which they are named (`node --test` sorts them): `in-order.ts RESULTS CONCURRENCY FILE …`. Shows what
 * they say, and writes a line of JSON per test to RESULTS (reporter.ts). Exits with 1 where any failed.
 */
import { createWriteStream } from 'node:fs';
import { resolve } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import reporter from './reporter.ts';

const [results = '', concurrency = '1', ...files] = process.argv.slice(2);
const events = run({
  files: files.map((file) => resolve(file)),
  concurrency: Number(concurrency),
  timeout: 900_000,
  execArgv: ['--disable-warning=ExperimentalWarning'],
});
events.on('test:fail', ({ todo }) => {
  if (todo === undefined || todo === false) process.exitCode = 1;
});
events.compose(new spec()).pipe(process.stdout);
events.compose(reporter).pipe(createWriteStream(results));
