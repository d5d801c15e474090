/** How a connection to an SQL server is encrypted, as Node's `tls` takes it. Files are read anew for each connection. */
import { readFileSync } from 'node:fs';
import { messageOf, UserError } from '../../lib/errors.ts';
import type { ServerTls } from '../url-server.ts';

function readPem(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new UserError('TlsFile', `The file ${path} that the metadata URL names cannot be read: ${messageOf(cause)}`, {
      cause,
      hint: 'Correct the path, or leave the option out.',
    });
  }
}

/** Whether the server's authority is asked, and what is trusted and shown. Throws UserError TlsFile. */
export function tlsMembers({ verify, caFile, certFile, keyFile }: ServerTls): {
  readonly rejectUnauthorized: boolean;
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
} {
  return {
    rejectUnauthorized: verify !== 'nothing',
    ...(caFile ? { ca: readPem(caFile) } : {}),
    ...(certFile && keyFile ? { cert: readPem(certFile), key: readPem(keyFile) } : {}),
  };
}
