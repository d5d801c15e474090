/** `juicepod webhook`: runs the admission webhook until it is told to end. */
import { join } from 'node:path';
import { platformNames, runWebhook, type Settings } from '../admission/index.ts';
import { connect } from '../kube/client.ts';
import { UserError } from '../lib/errors.ts';
import type { LogLevel } from '../lib/log.ts';
import { parseDuration } from '../lib/units.ts';
import { createLogger } from '../lib/winston.ts';
import { endingSignal, namespacesOf, portOf } from './options.ts';

interface WebhookCommand {
  readonly kubeconfig?: string;
  readonly namespace: string;
  readonly watchNamespaces?: string;
  readonly image?: string;
  readonly imagePullPolicy?: Settings['imagePullPolicy'];
  readonly imagePullSecret?: readonly string[];
  readonly allowImage?: readonly string[];
  readonly platform?: string;
  readonly podSecurityCheck: boolean;
  readonly storageRequests: boolean;
  readonly startTimeout?: string;
  readonly clientMetricsPort: string;
  readonly port: string;
  readonly certDir?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly logLevel: LogLevel;
}

/** A platform's name; a wrong one would refuse every pod. */
function platformOf(name: string): string {
  if (!platformNames.includes(name))
    throw new UserError('PlatformUnknown', `--platform ${name} is unknown; known are ${platformNames.join(', ')}`);
  return name;
}

/** The name of a Secret; another would make every pod invalid. */
function secretNameOf(name: string): string {
  if (name.length > 253 || !/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(name))
    throw new UserError(
      'InvalidOption',
      `--image-pull-secret ${JSON.stringify(name)}: wanted the name of a Secret, such as regcred`,
    );
  return name;
}

/** In whole seconds, a minute at least: the client itself waits half of that for a database. Throws UserError. */
function startSecondsOf(text: string): number {
  const seconds = Math.ceil(parseDuration(text, '--start-timeout') / 1000);
  if (seconds < 10 || seconds > 3600) throw new UserError('InvalidOption', `--start-timeout ${text}: wanted 10s to 1h`);
  return seconds;
}

/** Files that somebody else keeps, where that was asked for. Throws UserError. */
function filesOf({ certDir, tlsCert, tlsKey }: WebhookCommand): { readonly cert: string; readonly key: string } | undefined {
  if ((tlsCert === undefined) !== (tlsKey === undefined))
    throw new UserError('KeyPairIncomplete', '--tls-cert and --tls-key belong together: only one of them was given');
  if (certDir !== undefined && tlsCert !== undefined)
    throw new UserError('KeyPairTwice', '--cert-dir and --tls-cert name two places for one certificate; give one of them');
  if (certDir !== undefined) return { cert: join(certDir, 'tls.crt'), key: join(certDir, 'tls.key') };
  return tlsCert !== undefined && tlsKey !== undefined ? { cert: tlsCert, key: tlsKey } : undefined;
}

export async function webhookCommand(raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as WebhookCommand;
  const files = filesOf(options);
  const namespaces = namespacesOf(options.watchNamespaces, '--watch-namespaces');
  await runWebhook(
    {
      client: connect({ fieldManager: 'juicepod-webhook', ...(options.kubeconfig ? { kubeconfig: options.kubeconfig } : {}) }),
      namespace: options.namespace,
      ...(namespaces ? { namespaces } : {}),
      port: portOf(options.port, '--port'),
      log: createLogger({ level: options.logLevel, json: true }),
      settings: {
        ...(options.image ? { image: options.image } : {}),
        ...(options.imagePullSecret ? { imagePullSecrets: options.imagePullSecret.map(secretNameOf) } : {}),
        ...(options.allowImage ? { allowedImages: options.allowImage } : {}),
        ...(options.platform ? { platform: platformOf(options.platform) } : {}),
        checkPodSecurity: options.podSecurityCheck,
        requestDisk: options.storageRequests,
        metricsPort: portOf(options.clientMetricsPort, '--client-metrics-port'),
        ...(options.startTimeout === undefined ? {} : { startSeconds: startSecondsOf(options.startTimeout) }),
        ...(options.imagePullPolicy ? { imagePullPolicy: options.imagePullPolicy } : {}),
      },
      ...(files ? { files } : {}),
    },
    endingSignal(),
  );
}
