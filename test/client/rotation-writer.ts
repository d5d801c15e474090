/** A program that writes without a pause while credentials change under it, and knows what it has written. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { until } from '../cli/command.ts';

/** Appends lines with a sync of each, and writes a file of several blocks now and then, until it is told to end. */
export function startRotationWriter(folder: string) {
  const sums = new Map<string, string>();
  const errors: unknown[] = [];
  const ending = new AbortController();
  let lines = 0;
  const work = async (): Promise<void> => {
    mkdirSync(folder);
    const file = await open(join(folder, 'lines'), 'a');
    for (let round = 0; !ending.signal.aborted; round++) {
      try {
        await file.write(`${round}\n`);
        await file.sync();
        lines = round + 1;
        if (round % 10 === 0) {
          const data = randomBytes(5 << 20);
          sums.set(`data-${round}`, createHash('sha256').update(data).digest('hex'));
          await writeFile(join(folder, `data-${round}`), data);
        }
      } catch (error) {
        errors.push(error);
        break;
      }
    }
    await file.close();
  };
  const done = work();
  // Where a test fails its mount goes before the writer has ended: that is not what failed.
  done.catch(() => {});
  return {
    errors,
    get lines() {
      return lines;
    },
    async goesOn(): Promise<void> {
      const before = lines;
      await until('the writer goes on', () => errors.length > 0 || lines > before + 25);
      assert.deepEqual(errors, []);
    },
    /** Ends it, and checks every byte as `elsewhere`, another mount, shows it. */
    async end(elsewhere: () => Promise<string>): Promise<void> {
      ending.abort();
      await done;
      assert.deepEqual(errors, []);
      const seen = await elsewhere();
      assert.equal(readFileSync(join(seen, 'lines'), 'utf8'), Array.from({ length: lines }, (_, line) => `${line}\n`).join(''));
      for (const [name, sum] of sums)
        assert.equal(
          createHash('sha256')
            .update(readFileSync(join(seen, name)))
            .digest('hex'),
          sum,
          name,
        );
      assert.deepEqual(readdirSync(seen).toSorted(), ['lines', ...sums.keys()].toSorted());
    },
  };
}
