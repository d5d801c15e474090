/**
 * A Redis that speaks TLS only, wants the client's certificate, and has one user with the rights that docs/operations.md
 * names and no other.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort, startRedis } from '../servers.ts';
import { ensureDebian } from '../tools.ts';

/** The rights, as the documentation spells them. */
export function documentedRights(): string {
  const text = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');
  const rights = /^ACL SETUSER juicepod on >\S+ (.*)$/m.exec(text)?.[1];
  if (rights === undefined) throw new Error('docs/operations.md names no rights of a user of Redis');
  return rights;
}

/** Makes an authority and a certificate for 127.0.0.1 and localhost that it signed; PEM files in `folder`. */
export function makeCertificates(folder: string): { readonly ca: string; readonly cert: string; readonly key: string } {
  ensureDebian('openssl');
  const openssl = (...args: readonly string[]): void =>
    void execFileSync('openssl', args, { cwd: folder, stdio: 'pipe', timeout: 30_000 });
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  openssl('req', '-x509', ...curve, '-keyout', 'ca.key', '-out', 'ca.crt', '-subj', '/CN=test authority');
  openssl('req', ...curve, '-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=test server');
  writeFileSync(join(folder, 'names'), 'subjectAltName=IP:127.0.0.1,DNS:localhost');
  const signed = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2', '-extfile', 'names'];
  openssl('x509', '-req', '-in', 'server.csr', ...signed, '-out', 'server.crt');
  return { ca: join(folder, 'ca.crt'), cert: join(folder, 'server.crt'), key: join(folder, 'server.key') };
}

export async function startGuarded(): Promise<{ url(database: number): string; stop(): Promise<void> }> {
  const plain = await freePort();
  let files: ReturnType<typeof makeCertificates> | undefined;
  const server = await startRedis((folder, port) => {
    files = makeCertificates(folder);
    const tls = ['--tls-port', String(port), '--tls-cert-file', files.cert, '--tls-key-file', files.key];
    // Tests also empty databases.
    const user = `juicepod on >p@ss ${documentedRights()} +flushdb`.split(' ');
    const rest = ['--user', 'default', 'off', '--user', ...user];
    return ['--port', String(plain), '--databases', '5000', ...tls, '--tls-ca-cert-file', files.ca, ...rest];
  });
  const { ca = '', cert = '', key = '' } = files ?? {};
  const query = `tls-ca-cert-file=${ca}&tls-cert-file=${cert}&tls-key-file=${key}`;
  return {
    url: (database) => `rediss://juicepod:p%40ss@127.0.0.1:${server.port}/${database}?${query}`,
    stop: () => server.stop(),
  };
}
