/** Access control lists of a volume that the official client and ours have mounted: what one sets, the other shows and obeys. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmodSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { onPath } from '../tools.ts';
import { cannotInteroperate } from './official.ts';
import { openPair, otherClient, type Pair } from './pair.ts';

const exec = promisify(execFile);
const noTools =
  onPath('setfacl') && onPath('getfacl') && onPath('python3') ? false : 'setfacl (package acl) or python3 is missing';

async function facl(path: string): Promise<string> {
  const { stdout } = await exec('getfacl', ['-n', '-p', '--omit-header', path]);
  return stdout.trim();
}

/** Whether a user with these groups may open a file so, in a process of its own. */
async function may(uid: number, gid: number, path: string, mode: 'r' | 'w'): Promise<boolean> {
  const script = `import os,sys
os.setgroups([]); os.setgid(${gid}); os.setuid(${uid})
try: os.close(os.open(sys.argv[1], os.O_RDONLY if sys.argv[2] == 'r' else os.O_WRONLY))
except PermissionError: print('no')`;
  const { stdout } = await exec('python3', ['-c', script, path, mode]);
  return stdout.trim() !== 'no';
}

for (const engine of ['redis', 'sqlite', 'postgres', 'mysql'] as const)
  describe(`access control lists beside the official client over ${engine}`, { skip: cannotInteroperate || noTools }, () => {
    let pair: Pair;
    before(async () => {
      pair = await openPair({ engine, acl: true });
      chmodSync(pair.work, 0o755);
      for (const client of ['ours', 'official'] as const) chmodSync(pair.folder(client), 0o777);
    });
    after(() => pair?.[Symbol.asyncDispose]());

    for (const first of ['official', 'ours'] as const) {
      const second = otherClient(first);

      test(`lists that ${first} sets are shown and obeyed by ${second}, and changed there`, async () => {
        const [here, there] = [join(pair.folder(first), `by-${first}`), join(pair.folder(second), `by-${first}`)];
        writeFileSync(here, 'text');
        chmodSync(here, 0o640);
        await exec('setfacl', ['-m', 'u:1001:rw,g:2001:r,g:2002:---', here]);
        assert.equal(await facl(there), await facl(here));
        assert.equal(statSync(there).mode & 0o777, 0o660);
        for (const path of [here, there]) {
          assert.deepEqual([await may(1001, 9, path, 'r'), await may(1001, 9, path, 'w')], [true, true]);
          assert.deepEqual([await may(1002, 2001, path, 'r'), await may(1002, 2001, path, 'w')], [true, false]);
          assert.deepEqual([await may(1002, 2002, path, 'r'), await may(1003, 9, path, 'r')], [false, false]);
        }
        chmodSync(there, 0o600);
        assert.equal(await facl(here), await facl(there));
        assert.match(await facl(here), /user:1001:rw-\t#effective:---/);
        assert.equal(await may(1001, 9, here, 'r'), false);
        await exec('setfacl', ['-b', there]);
        // The mode stays as the mask had made it.
        for (const path of [here, there]) assert.equal(await facl(path), 'user::rw-\ngroup::---\nother::---');
      });

      test(`what is made where ${first} set a default list is the same for both`, async () => {
        const name = `default-${first}`;
        const [here, there] = [join(pair.folder(first), name), join(pair.folder(second), name)];
        mkdirSync(here);
        await exec('setfacl', ['-d', '-m', 'u:1001:rwx,g::r-x,o::---', here]);
        assert.equal(await facl(there), await facl(here));
        for (const folder of [here, there]) {
          const kind = folder === here ? 'first' : 'second';
          writeFileSync(join(folder, `file-${kind}`), '', { mode: 0o664 });
          mkdirSync(join(folder, `folder-${kind}`), { mode: 0o755 });
        }
        for (const folder of [here, there])
          for (const kind of ['file', 'folder'])
            assert.equal(await facl(join(folder, `${kind}-first`)), await facl(join(folder, `${kind}-second`)));
        await exec('setfacl', ['-k', there]);
        assert.doesNotMatch(await facl(here), /default/);
      });
    }
  });
