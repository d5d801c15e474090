/** Where metrics are served, and how they are labelled, as options say it. */
import type { MetricsAddress } from '../../client/metrics-server.ts';
import { messageOf, UserError } from '../../lib/errors.ts';
import type { Labels } from '../../lib/metrics.ts';

/** That of the official client. */
const USUAL = '127.0.0.1:9567';

/** `host:port`, `[::1]:port` or `:port` (all addresses). Throws UserError `InvalidAddress`. */
export function metricsAddress(text: string, option = '--metrics'): MetricsAddress {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65_535)
    throw new UserError(
      'InvalidAddress',
      `${option}: wanted host:port, such as 127.0.0.1:9567 or :9567, found ${JSON.stringify(text)}`,
    );
  return { host: match[1] ?? match[2] ?? '', port };
}

/** `name:value;name:value`, as the official client has it. Throws UserError `InvalidLabels`. */
export function customLabels(text: string): Labels {
  const labels: Record<string, string> = {};
  for (const pair of text.split(';').filter((each) => each !== '')) {
    const [name = '', value, ...more] = pair.split(':');
    if (value === undefined || more.length > 0 || !/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name) || name.startsWith('__'))
      throw new UserError(
        'InvalidLabels',
        `--custom-labels: wanted name:value;name:value with names of letters, digits and _, found ${JSON.stringify(pair)}`,
      );
    labels[name] = value;
  }
  return labels;
}

async function canListen({ host, port }: MetricsAddress): Promise<void> {
  const { createServer } = await import('node:net');
  return new Promise((done, fail) => {
    const server = createServer();
    server.once('error', (error) =>
      fail(
        new UserError('MetricsDenied', `--metrics: ${host}:${port} cannot be listened on: ${messageOf(error)}`, {
          hint: 'Name an address of this machine with a port that is free; port 0 takes any, `none` serves no metrics.',
        }),
      ),
    );
    server.listen({ port, ...(host === '' ? {} : { host }) }, () => server.close(() => done()));
  });
}

/**
 * What a mount on this machine was told. As with the official client any free port will do where none was named and the usual one is
 * taken. Throws UserError where a named one cannot be had.
 */
export async function metricsOf(
  address: string | undefined,
  labels: string | undefined,
): Promise<{ readonly metrics?: MetricsAddress; readonly customLabels?: Labels }> {
  const named = labels === undefined ? {} : { customLabels: customLabels(labels) };
  if (address === 'none') return named;
  if (address === undefined) return { ...named, metrics: { ...metricsAddress(USUAL), otherwiseAny: true } };
  const metrics = metricsAddress(address);
  await canListen(metrics);
  return { ...named, metrics };
}
