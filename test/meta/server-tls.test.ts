/** Connections to SQL servers with TLS: who is believed to be the server, and whom the server lets in. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { UserError } from '../../src/lib/errors.ts';
import { openEngine } from '../../src/meta/open.ts';
import { makeUser, type SecureServer, sqlKinds, startSecure } from '../sql-servers.ts';

for (const [name, kind] of sqlKinds)
  describe(`TLS to ${name}`, () => {
    let server: SecureServer;
    before(async () => {
      server = await startSecure(kind);
      await makeUser(kind, server.port, 'secure', 'word', 'SSL');
      await makeUser(kind, server.port, 'plain', 'word');
      if (kind === 'mysql') await makeUser(kind, server.port, 'certified', '', "SUBJECT '/CN=certified'");
    });
    after(() => server.stop());

    /** Options of a metadata URL, in the words of its driver. */
    const options = (mode: string, files: Readonly<Partial<Record<'ca' | 'cert' | 'key', string>>> = {}): string => {
      const words: Readonly<Record<string, string>> =
        kind === 'postgres'
          ? {
              mode: 'sslmode',
              ca: 'sslrootcert',
              cert: 'sslcert',
              key: 'sslkey',
              name: 'verify-full',
              skip: 'require',
              off: 'disable',
            }
          : {
              mode: 'tls',
              ca: 'tls-ca-cert-file',
              cert: 'tls-cert-file',
              key: 'tls-key-file',
              name: 'true',
              skip: 'skip-verify',
              off: 'false',
            };
      const pairs = [['mode', words[mode] ?? mode], ...Object.entries(files)].map(
        ([key = '', value]) => `${words[key]}=${value}`,
      );
      return [...pairs, 'max_open_conns=1'].join('&');
    };

    /** The error of an attempt, empty where it is let in. */
    async function attempt(user: string, host: string, how: string): Promise<string> {
      try {
        const url = server.urlFor(user, user === 'certified' ? undefined : 'word', host, how);
        const engine = await openEngine(url, { environment: {}, patience: 300 });
        await engine.readSetting();
        await engine.close();
        return '';
      } catch (error) {
        assert.ok(error instanceof UserError, String(error));
        assert.ok(error.hint);
        return `${error.code} ${error.message}`;
      }
    }

    test('without a check anybody is the server, and without TLS a user of whom it is asked is not let in', async () => {
      assert.equal(await attempt('secure', '127.0.0.1', options('skip')), '');
      assert.match(await attempt('secure', '127.0.0.1', options('off')), /^MetaRefused/);
      assert.equal(await attempt('plain', '127.0.0.1', options('off')), '');
      assert.equal(await attempt('plain', '127.0.0.1', options('skip')), '');
    });

    test('an authority that is named is the only one that is believed', async () => {
      const { ca, other } = server.files;
      assert.equal(await attempt('secure', '127.0.0.1', options('verify-ca', { ca })), '');
      for (const mode of ['verify-ca', 'name']) {
        assert.match(await attempt('secure', 'localhost', options(mode, { ca: other })), /^MetaUnreachable .*certificate/);
        assert.match(await attempt('secure', 'localhost', options(mode)), /^MetaUnreachable .*certificate/);
      }
      assert.match(await attempt('secure', 'localhost', options('name', { ca: '/nothing.crt' })), /^TlsFile .*\/nothing\.crt/);
    });

    test('the name in the certificate must be the host, be that a name or an address; a certificate is replaced while we look', async () => {
      const { ca } = server.files;
      assert.equal(await attempt('secure', 'localhost', options('name', { ca })), '');
      assert.match(
        await attempt('secure', '127.0.0.1', options('name', { ca })),
        /^MetaUnreachable .*(altnames|does not match|not in the cert)/i,
      );
      await server.certify('IP:127.0.0.1');
      assert.equal(await attempt('secure', '127.0.0.1', options('name', { ca })), '');
      assert.match(
        await attempt('secure', 'localhost', options('name', { ca })),
        /^MetaUnreachable .*(altnames|does not match|not in the cert)/i,
      );
      await server.certify('DNS:localhost');
    });

    test('a user whom only a certificate lets in needs it', async () => {
      const { ca, cert, key } = server.files;
      assert.equal(await attempt('certified', 'localhost', options('name', { ca, cert, key })), '');
      assert.match(await attempt('certified', 'localhost', options('name', { ca })), /^MetaRefused/);
    });
  });
