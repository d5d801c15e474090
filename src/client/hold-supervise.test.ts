import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EXIT_GONE, nextStep } from './hold-supervise.ts';

const crash = { code: null, signal: 'SIGKILL' } as const;

test('a client that crashes is started again, until it failed three times inside ten seconds', () => {
  const first = nextStep(crash, [], 0);
  assert.deepEqual(first, { do: 'restart', failures: [0] });
  const second = nextStep(crash, [0], 4000);
  assert.deepEqual(second, { do: 'restart', failures: [0, 4000] });
  assert.deepEqual(nextStep(crash, [0, 4000], 9999), { do: 'end', code: 1 });
  assert.deepEqual(nextStep({ code: 5, signal: null }, [0, 4000], 9999), { do: 'end', code: 5 });
});

test('failures of long ago do not count', () => {
  assert.deepEqual(nextStep(crash, [0, 4000], 10_500), { do: 'restart', failures: [4000, 10_500] });
});

test('an orderly end, and a volume that is gone, are final', () => {
  assert.deepEqual(nextStep({ code: 0, signal: null }, [0], 1), { do: 'end', code: 0 });
  assert.deepEqual(nextStep({ code: EXIT_GONE, signal: null }, [], 1), { do: 'end', code: EXIT_GONE });
});
