import assert from 'node:assert/strict';
import { test } from 'node:test';
import { heldBack, type Logger, nullLogger } from './log.ts';

test('what is held back is told in its order when it is released, and what comes later at once', () => {
  const said: string[] = [];
  const to = (prefix: string): Logger => ({
    ...nullLogger,
    info: (message) => void said.push(`${prefix}info ${message}`),
    warn: (message) => void said.push(`${prefix}warn ${message}`),
    child: () => to('child '),
  });
  const { logger, release } = heldBack(to(''));
  logger.info('one');
  const child = logger.child({ part: 'x' });
  child.warn('two');
  assert.deepEqual(said, []);
  release();
  assert.deepEqual(said, ['info one', 'child warn two']);
  child.info('three');
  assert.equal(said.at(-1), 'child info three');
});
