/** A holder as a process of its own for the tests: `node holder.ts <json of HolderOptions without log>`. */
import { type HolderOptions, plainLogger, runHolder } from '../../src/client/hold.ts';

const options = JSON.parse(process.argv[2] ?? '{}') as Omit<HolderOptions, 'log'>;
const print = (event: Readonly<Record<string, unknown>>): void => void process.stdout.write(`${JSON.stringify(event)}\n`);
const log = plainLogger();
const code = await runHolder({
  ...options,
  log,
  onReady: () => print({ event: 'ready', rss: process.memoryUsage().rss }),
  onPut: () => print({ event: 'put' }),
});
process.exit(code);
