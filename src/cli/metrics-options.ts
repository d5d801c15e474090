/** Where metrics are served, and how they are labelled, as options say it. */
import type { MetricsAddress } from '../client/metrics-server.ts';
import { UserError } from '../lib/errors.ts';
import type { Labels } from '../lib/metrics.ts';

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
