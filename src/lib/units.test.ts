import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatBytes, parseDuration, parseMbps, parseSize } from './units.ts';

test('sizes are read as JuiceFS spells them', () => {
  assert.equal(parseSize('300M', '--buffer-size'), 300 * 2 ** 20);
  assert.equal(parseSize('300', '--buffer-size'), 300 * 2 ** 20);
  assert.equal(parseSize('64', '--block-size', 'K'), 65_536);
  assert.equal(parseSize('1.5GiB', '--cache-size'), 1.5 * 2 ** 30);
  assert.throws(() => parseSize('many', '--cache-size'), /--cache-size: wanted a size such as 512M or 4G, found "many"/);
});

test('durations are read with units, together, or as seconds', () => {
  assert.equal(parseDuration('1.5s', '-x'), 1500);
  assert.equal(parseDuration('2', '-x'), 2000);
  assert.equal(parseDuration('1h30m', '-x'), 5_400_000);
  assert.equal(parseDuration('100ms', '-x'), 100);
  assert.throws(() => parseDuration('soon', '--attr-cache'), /--attr-cache: wanted a duration/);
});

test('bytes are shown with three digits', () => {
  assert.equal(formatBytes(0), '0 B');
  assert.equal(formatBytes(1536), '1.50 KiB');
  assert.equal(formatBytes(5 * 2 ** 30), '5.00 GiB');
});

test('rates are Mbit/s, or with a larger unit, rounded down', () => {
  assert.equal(parseMbps('100', '-x'), 100);
  assert.equal(parseMbps('1.5G', '-x'), 1500);
  assert.equal(parseMbps('2t', '-x'), 2_000_000);
  assert.equal(parseMbps('0.9', '-x'), 0);
  for (const wrong of ['', 'fast', '10K', '-1', '1e3', '99999999999999P'])
    assert.throws(() => parseMbps(wrong, '--upload-limit'), /--upload-limit: wanted Mbit/);
});
