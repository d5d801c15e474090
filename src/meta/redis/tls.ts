/** What Node is told of TLS to a Redis: the files of the metadata URL, read each time, and the name to look for. */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { messageOf, UserError } from '../../lib/errors.ts';
import type { RedisTls } from '../url-redis.ts';

function readPem(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new UserError('TlsFile', `The file ${path} that the metadata URL names cannot be read: ${messageOf(cause)}`, {
      cause,
    });
  }
}

export function tlsOptions(tls: RedisTls, host: string): object {
  const servername = tls.serverName ?? (isIP(host) === 0 ? host : undefined);
  return {
    // Without a name, the addresses in the certificate are compared with the one that we connect to.
    ...(servername ? { servername } : {}),
    rejectUnauthorized: !tls.insecureSkipVerify,
    ...(tls.certFile && tls.keyFile ? { cert: readPem(tls.certFile), key: readPem(tls.keyFile) } : {}),
    ...(tls.caFile ? { ca: readPem(tls.caFile) } : {}),
  };
}
