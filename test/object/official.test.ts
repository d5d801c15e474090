/** Objects on S3 go both ways between the official client and us, checksums verified by the reader (JUICEFS_BIN names it). */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openObjectStore } from '../../src/object/open.ts';
import { startS3 } from '../servers.ts';
import { juicefs } from '../tools.ts';

const binary = juicefs();

test(
  'the official client reads what we put, and we what it puts',
  { skip: binary ? false : 'JUICEFS_BIN is not set' },
  async () => {
    assert.ok(binary);
    await using server = await startS3();
    const bucket = `${server.endpoint}/both`;
    const { accessKey, secretKey } = server;
    const store = openObjectStore({ storage: 's3', bucket, accessKey, secretKey, name: '' });
    await store.create();
    const body = Buffer.alloc(300_001, 'both ways ');
    await store.put('dir/ours', body);
    const folder = join(server.folder, 'local');
    mkdirSync(folder);
    const remote = `s3://${accessKey}:${secretKey}@${bucket.slice('http://'.length)}/`;
    const sync = (from: string, to: string): void =>
      void execFileSync(binary, ['sync', '--no-https', '--check-all', from, to], { stdio: 'pipe' });
    sync(remote, `${folder}/`);
    assert.ok(readFileSync(join(folder, 'dir/ours')).equals(body));
    writeFileSync(join(folder, 'dir/theirs'), body.subarray(7));
    sync(`${folder}/`, remote);
    let verified = false;
    const theirs = await store.get('dir/theirs', { onSums: () => (verified = true) });
    assert.ok(theirs.equals(body.subarray(7)));
    assert.equal(verified, true, 'its checksum was there');
    await store.close();
  },
);
