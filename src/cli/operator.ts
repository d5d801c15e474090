/** `juicepod operator`: runs the operator until it is told to end. */
import { Registry } from 'prom-client';
import { connect } from '../kube/client.ts';
import type { LogLevel } from '../lib/log.ts';
import { createLogger } from '../lib/winston.ts';
import { runOperator } from '../operator/index.ts';
import { endingSignal, namespacesOf, numberOf, portOf, wholeNumberOf } from './options.ts';

export async function operatorCommand(raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as {
    readonly kubeconfig?: string;
    readonly namespace: string;
    readonly watchNamespaces?: string;
    readonly metricsPort: string;
    readonly kubeApiQps: string;
    readonly kubeApiBurst: string;
    readonly logLevel: LogLevel;
    readonly clientImage?: string;
    readonly allowImage?: readonly string[];
  };
  const metrics = new Registry();
  const namespaces = namespacesOf(options.watchNamespaces, '--watch-namespaces');
  await runOperator({
    metrics,
    client: connect({
      fieldManager: 'juicepod-operator',
      metrics,
      requestsPerSecond: numberOf(options.kubeApiQps, '--kube-api-qps', 1, 10_000),
      burst: wholeNumberOf(options.kubeApiBurst, '--kube-api-burst', 1, 100_000),
      ...(options.kubeconfig ? { kubeconfig: options.kubeconfig } : {}),
    }),
    namespace: options.namespace,
    ...(namespaces ? { namespaces } : {}),
    port: portOf(options.metricsPort, '--metrics-port'),
    log: createLogger({ level: options.logLevel, json: true }),
    ...(options.clientImage ? { clientImage: options.clientImage } : {}),
    ...(options.allowImage ? { allowedImages: options.allowImage } : {}),
    signal: endingSignal(),
  });
}
