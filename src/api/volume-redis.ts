/** Redis or Valkey as the database of a JuiceVolume: one server, Sentinels, or a Cluster. */
import { z } from 'zod';
import { choice, declare, immutable, object, objectName, type Rule, secretKey, text } from './schema.ts';

interface Servers {
  readonly addresses: readonly string[];
}

const MAX_ADDRESSES = 16;

const distinct: Rule<Servers> = {
  cel: 'self.addresses.all(a, self.addresses.exists_one(b, b == a))',
  message: 'each address can stand there once',
  holds: ({ addresses }) => new Set(addresses).size === addresses.length,
};

const ADDRESS = '^([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$';

/** Says what the pattern cannot. */
const eachWithPort: Rule<unknown> = {
  cel: "self.all(address, address.matches(':[0-9]{1,5}$'))",
  message: 'each address is host:port, such as redis.data:6379',
};

const sentinelStays: Rule<unknown> = {
  cel: '!has(self.sentinel) || !has(oldSelf.sentinel) || self.sentinel.masterName == oldSelf.sentinel.masterName',
  message: 'sentinel.masterName names the database: it is immutable',
};

export const redisSpec = object(
  'Redis or Valkey (4.0 or newer): one server, a master that Sentinels know, or a Cluster. It must keep what is written to it: no eviction, and persistence.',
  {
    addresses: declare(
      z
        .array(text('host:port', { min: 3, max: 261, pattern: ADDRESS, wanted: eachWithPort.message }))
        .min(1)
        .max(MAX_ADDRESSES),
      'Where Redis listens, as host:port. One address: a server, or any node of a Cluster. Several: nodes of a Cluster. With sentinel: the Sentinels.',
      [eachWithPort],
      { 'x-kubernetes-list-type': 'atomic' },
    ),
    database: declare(
      z.int().min(0).max(255),
      'Number of the Redis database; in a Cluster the hash tag of the volume, {number}. Immutable.',
      [immutable],
    ).default(0),
    sentinel: object('The addresses are those of Sentinels; they say which server is the master.', {
      masterName: text('Name under which the Sentinels know the master. Immutable.', {
        min: 1,
        max: 253,
        pattern: '^[A-Za-z0-9._-]+$',
      }),
      authSecretRef: object('The Secret with the password of the Sentinels, where they have one.', {
        name: objectName('Name of the Secret, in the namespace of the volume.'),
        passwordKey: secretKey('Key of the password.').default('sentinelPassword'),
      }).optional(),
    }).optional(),
    waitForReplicas: declare(
      z.int().min(0).max(8),
      'A change is answered when so many replicas have it, so that it survives the loss of the master. Without them changes wait, and fail after 30 s. 0: a change that no replica has yet is lost with the master. Default: 0.',
    ).optional(),
    readFrom: choice(
      'Master, or Replica: where pods that only read ask. What a replica says may be a little old. Only with Sentinels, or a Cluster. Default: Master.',
      ['Master', 'Replica'],
    ).optional(),
    authSecretRef: object('The Secret with the credentials for Redis.', {
      name: objectName('Name of the Secret, in the namespace of the volume.'),
      usernameKey: secretKey('Key of the user name. A Secret without it means the default user.').default('username'),
      passwordKey: secretKey('Key of the password.').default('password'),
    }).optional(),
    tls: object(
      'Transport encryption; with sentinel, to the Sentinels, too.',
      {
        enabled: z.boolean().describe('Speak TLS to Redis.').default(false),
        caSecretRef: object('The Secret with the certificates of the authorities to trust. Without it, those the image trusts.', {
          name: objectName('Name of the Secret, in the namespace of the volume.'),
          key: secretKey('Key of the PEM text.').default('ca.crt'),
        }).optional(),
        clientCertSecretRef: object(
          'The Secret with the certificate that clients show to Redis, and to the Sentinels, as cert-manager makes them.',
          {
            name: objectName('Name of the Secret, in the namespace of the volume.'),
            certKey: secretKey('Key of the PEM text of the certificate.').default('tls.crt'),
            privateKeyKey: secretKey('Key of the PEM text of its private key, which has no passphrase.').default('tls.key'),
          },
        ).optional(),
        serverName: text('Name the certificate must be for, where it is not the host of the address.', {
          min: 1,
          max: 253,
        }).optional(),
      },
      [
        {
          cel: 'self.enabled || (!has(self.caSecretRef) && !has(self.clientCertSecretRef) && !has(self.serverName))',
          message: 'caSecretRef, clientCertSecretRef and serverName need enabled: true',
          holds: ({ enabled, caSecretRef, clientCertSecretRef, serverName }) =>
            enabled || (caSecretRef === undefined && clientCertSecretRef === undefined && serverName === undefined),
        },
      ],
    ).prefault({ enabled: false }),
  },
  [distinct, sentinelStays],
);
