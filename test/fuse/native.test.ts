/** The smoke test of the second transport; what it cannot carry is in the head of src/fuse/native.ts. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadNative } from '../../src/fuse/native.ts';
import { messageOf } from '../../src/lib/errors.ts';
import { run, scratch, serve, shell, whyNoFuse } from './mounted.ts';

const missing = await loadNative().then(
  () => undefined,
  (error: unknown) => messageOf(error),
);
const skip = whyNoFuse() ?? missing ?? false;

test('files, directories, links and attributes work over fuse-native', { skip, timeout: 60_000 }, async () => {
  await using folder = scratch();
  const mnt = join(folder.path, 'mnt');
  mkdirSync(mnt);
  await using server = await serve({ target: mnt, transport: 'native', delayed: true, names: 3 });
  assert.equal(
    await shell(`cd ${mnt}; rm name-*; echo hello > a; mkdir d; mv a d/b; ln -s d/b link; ln d/b hard; cat link`),
    'hello\n',
  );
  assert.equal(
    await shell(`cd ${mnt}; stat -c '%s %h' d/b; readlink link; ls -1 | sort | tr '\\n' ' '`),
    '6 2\nd/b\nd hard link ',
  );
  assert.equal(
    await shell(`cd ${mnt}; chmod 741 d/b; truncate -s 3 d/b; stat -c '%a %s' d/b; rm hard d/b link; rmdir d; ls -A`),
    '741 3\n',
  );
  await shell(`head -c 3000000 /dev/urandom > ${folder.path}/random; cd ${mnt}; cp ../random copy; cmp ../random copy`);
  await assert.rejects(shell(`cat ${mnt}/missing`), /No such file/);
  const { open } = await server.stats();
  assert.equal(open, 0);
  await run('umount', [mnt]);
  assert.equal((await server.next('end'))['end'], 'unmounted');
  assert.doesNotMatch(server.output, /error/);
});
