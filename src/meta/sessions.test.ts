import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSession, SESSION_VERSION, sessionText } from './sessions.ts';

test('a session describes itself as the official client does, members in its order', () => {
  const text = sessionText('/mnt/data', Date.UTC(2026, 0, 2, 3, 4, 5), 42);
  const names = Object.keys(JSON.parse(text) as object).filter((name) => name !== 'IPAddrs');
  assert.deepEqual(names, ['Version', 'HostName', 'MountPoint', 'MountTime', 'ProcessID']);
  assert.doesNotMatch(text, /[:,] /);
  const session = parseSession(7, 100, text);
  assert.deepEqual(
    [session.sid, session.expire, session.version, session.mountPoint, session.mountTime, session.processId],
    [7, 100, SESSION_VERSION, '/mnt/data', '2026-01-02T03:04:05.000Z', 42],
  );
  assert.match(SESSION_VERSION, /^1\.4\.1\+juicepod-\d+\.\d+\.\d+$/);
});

test('a session without a readable description is a session all the same', () => {
  for (const text of [undefined, '', '{', 'null', '{"Version":5}'])
    assert.deepEqual(parseSession(1, 2, text), {
      sid: 1,
      expire: 2,
      version: '',
      hostName: '',
      mountPoint: '',
      mountTime: '',
      processId: 0,
      generation: '',
    });
});

test('a session says which credentials it uses where they have a name', () => {
  assert.equal(parseSession(1, 2, sessionText('/mnt', 0, 42, 'ab12')).generation, 'ab12');
  assert.equal(parseSession(1, 2, sessionText('/mnt', 0, 42)).generation, '');
});
