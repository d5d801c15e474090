/**
 * A volume of its own, and a program that writes to a mount of it: a process apart, for a test must be able to start others while
 * the mount hangs (a fork closes what this process has open there, which waits for the mount).
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MountConfig } from '../../src/api/mount.ts';
import { succeeds, until } from '../cli/command.ts';
import { removeFolder } from '../remove-folder.ts';

export interface TestVolume extends AsyncDisposable {
  readonly folder: string;
  readonly config: MountConfig;
}

/** Formats a volume with its blocks in a folder; its database too, unless another is named. */
export async function formatVolume(metaUrl?: string): Promise<TestVolume> {
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-volume-'));
  const url = metaUrl ?? `sqlite3://${join(folder, 'meta.db')}`;
  await succeeds(['format', url, 'testvol', '--storage', 'file', '--bucket', join(folder, 'store')]);
  const { Setting } = JSON.parse(await succeeds(['status', url, '--output', 'json'])) as { Setting: { UUID: string } };
  return {
    folder,
    config: { name: 'testvol', uuid: Setting.UUID, metaUrl: url },
    async [Symbol.asyncDispose]() {
      removeFolder(folder);
    },
  };
}

/** Appends lines to a file, syncs each, and says how many it has written. */
const PROGRAM = `
  const fs = require('node:fs');
  const fd = fs.openSync(process.argv[1], 'a');
  let ended = false;
  process.on('SIGTERM', () => (ended = true));
  const write = (line) => {
    if (ended) return fs.closeSync(fd);
    fs.writeSync(fd, line + '\\n');
    fs.fsyncSync(fd);
    process.stdout.write('.');
    setTimeout(write, 5, line + 1);
  };
  write(0);
`;

export interface Writer extends AsyncDisposable {
  readonly lines: number;
  /** Waits until it has written some more. */
  goesOn(): Promise<void>;
  /** Ends it; it must have seen no error, and every line be there. */
  end(): Promise<void>;
}

export function startWriter(file: string): Writer {
  const child = spawn(process.execPath, ['-e', PROGRAM, file], { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise<number | null>((done) => child.once('close', done));
  let [lines, errors] = [0, ''];
  child.stdout.on('data', (data: Buffer) => (lines += data.length));
  child.stderr.on('data', (data: Buffer) => (errors += data.toString()));
  return {
    get lines() {
      return lines;
    },
    async goesOn() {
      const before = lines;
      await until('the writer goes on', () => errors !== '' || child.exitCode !== null || lines > before + 20);
      assert.equal(errors, '');
      assert.equal(child.exitCode, null);
    },
    async end() {
      child.kill('SIGTERM');
      assert.equal(await ended, 0, errors);
      assert.equal(readFileSync(file, 'utf8'), Array.from({ length: lines }, (_, line) => `${line}\n`).join(''));
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
    },
  };
}

/** Writes without a sync, and keeps the file open: only the client knows of it. */
const HOARD = `
  const fs = require('node:fs');
  const fd = fs.openSync(process.argv[1], 'w');
  const bytes = Buffer.alloc(6 << 20, 'hoard ');
  fs.writeSync(fd, bytes);
  process.on('SIGTERM', () => {
    fs.fsyncSync(fd);
    fs.closeSync(fd);
    if (!fs.readFileSync(process.argv[1]).equals(bytes)) throw new Error('the bytes are others');
    process.exit(0);
  });
  process.stdout.write('.');
  setInterval(() => {}, 1000);
`;

/** A program with 6 MiB written and not synced; `end` has it sync and read them, which must succeed. */
export async function startHoarder(file: string): Promise<AsyncDisposable & { end(): Promise<void> }> {
  const child = spawn(process.execPath, ['-e', HOARD, file], { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise<number | null>((done) => child.once('close', done));
  let errors = '';
  child.stderr.on('data', (data: Buffer) => (errors += data.toString()));
  await new Promise((done) => child.stdout.once('data', done));
  return {
    async end() {
      child.kill('SIGTERM');
      assert.equal(await ended, 0, errors);
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
    },
  };
}
