/**
 * The part of a JuiceVolume that names an SQL server: PostgreSQL, or MySQL and MariaDB. What says which tables are meant (database,
 * schema, prefix) cannot change; where the server is and how it is spoken to can.
 */
import { z } from 'zod';
import { choice, declare, fixedPresence, immutable, object, objectName, type Rule, secretKey, text } from './schema.ts';

const modes = ['Disable', 'Prefer', 'Require', 'VerifyCA', 'VerifyFull'] as const;
type Mode = (typeof modes)[number];

const verifies = (mode: Mode): boolean => mode === 'VerifyCA' || mode === 'VerifyFull';

const tls = object(
  'Transport encryption.',
  {
    mode: choice(
      'Disable: none. Prefer: where the server has it; whose server it is, is not checked. Require: always; not checked either. VerifyCA: always, and the certificate must be of an authority that is trusted. VerifyFull: it must also be for the host.',
      modes,
    ).default('Prefer'),
    caSecretRef: object('The Secret with the certificates of the authorities to trust. Without it, those the image trusts.', {
      name: objectName('Name of the Secret, in the namespace of the volume.'),
      key: secretKey('Key of the PEM text.').default('ca.crt'),
    }).optional(),
    clientCertSecretRef: object('The Secret with the certificate that clients show to the server, as cert-manager makes them.', {
      name: objectName('Name of the Secret, in the namespace of the volume.'),
      certKey: secretKey('Key of the PEM text of the certificate.').default('tls.crt'),
      privateKeyKey: secretKey('Key of the PEM text of its private key, which has no passphrase.').default('tls.key'),
    }).optional(),
  },
  [
    {
      cel: "self.mode in ['VerifyCA', 'VerifyFull'] || !has(self.caSecretRef)",
      message: 'caSecretRef needs mode: VerifyCA or VerifyFull',
      holds: ({ mode, caSecretRef }) => verifies(mode) || caSecretRef === undefined,
    },
    {
      cel: "self.mode in ['Require', 'VerifyCA', 'VerifyFull'] || !has(self.clientCertSecretRef)",
      message: 'clientCertSecretRef needs mode: Require, VerifyCA or VerifyFull',
      holds: ({ mode, clientCertSecretRef }) => verifies(mode) || mode === 'Require' || clientCertSecretRef === undefined,
    },
  ],
);

/** What both kinds of server have. */
function serverFields(product: string, port: number) {
  return {
    host: text(`Name or address of the ${product} server, or of what leads to its primary.`, {
      min: 1,
      max: 253,
      pattern: '^([A-Za-z0-9._-]+|[0-9A-Fa-f:.]+)$',
    }),
    port: declare(z.int().min(1).max(65_535), 'Its port.').default(port),
    database: text('Name of the database, which must be there. Immutable.', { min: 1, max: 63, pattern: '^[A-Za-z0-9_$-]+$' }, [
      immutable,
    ]),
    tablePrefix: text(
      'Tables begin with jfs_<prefix>_ instead of jfs_, so that one database holds several volumes. Immutable.',
      { min: 1, max: 16, pattern: '^[A-Za-z0-9_]+$' },
      [immutable],
    ).optional(),
    authSecretRef: object(`The Secret with the credentials for ${product}.`, {
      name: objectName('Name of the Secret, in the namespace of the volume.'),
      usernameKey: secretKey('Key of the user name.').default('username'),
      passwordKey: secretKey('Key of the password. With a client certificate the Secret may be without it.').default('password'),
    }),
    maxConnections: declare(
      z.int().min(1).max(1000),
      'Connections of one client at most. The server must take as many for each pod, and some more for the operator.',
    ).default(16),
    tls: tls.prefault({ mode: 'Prefer' }),
  };
}

export const postgresSpec = object(
  'A PostgreSQL server, 10 or newer. It must keep what is written to it: fsync and full_page_writes on.',
  {
    ...serverFields('PostgreSQL', 5432),
    schema: text(
      'The schema of the tables. Default: the first of the user’s search path. Immutable.',
      { min: 1, max: 63, pattern: '^[a-z_][a-z0-9_$]*$' },
      [immutable],
    ).optional(),
  },
  [fixedPresence('schema'), fixedPresence('tablePrefix')],
);

export const mysqlSpec = object(
  'A MySQL server, 5.7 or newer, or MariaDB. It must keep what is written to it: innodb_flush_log_at_trx_commit = 1.',
  serverFields('MySQL', 3306),
  [fixedPresence('tablePrefix')],
);

/** ACLs are switched on, never off: files may have them by then. */
export const neverOff: Rule<boolean> = { cel: 'self || !oldSelf', message: 'enableACL cannot be switched off again' };
