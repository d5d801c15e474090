/**
 * A process that leads: while it holds the Lease `lock` it writes its name into the ConfigMap `work`, over and over, each write
 * guarded as an operator's are. Arguments: kubeconfig, name. Exits with 0 when it was told to end, with 3 when it lost the lease.
 */
import { connect } from '../../src/kube/client.ts';
import { createLeader } from '../../src/kube/leader.ts';
import { shutdownSignal } from '../../src/kube/manager.ts';
import { ConfigMaps } from '../../src/kube/resources.ts';
import { systemClock } from '../../src/lib/clock.ts';

const [kubeconfig = '', identity = ''] = process.argv.slice(2);
const namespace = 'default';
const client = connect({ kubeconfig, requestsPerSecond: 1000, burst: 1000 });
const durations = { leaseDurationMs: 12_000, renewDeadlineMs: 9000, retryPeriodMs: 500 };
const leader = createLeader({ client, namespace, name: 'lock', identity, ...durations });
const work = client.guarded(() => leader.assertLeading()).resource(ConfigMaps);
let count = 0;
const outcome = await leader.run(async (signal) => {
  while (!signal.aborted) {
    await work
      .apply({ metadata: { namespace, name: 'work' }, data: { by: identity, count: String(count++) } }, { fieldManager: 'work' })
      .catch(() => {});
    await systemClock.sleep(200, signal).catch(() => {});
  }
}, shutdownSignal());
await client.close();
process.exit(outcome === 'lost' ? 3 : 0);
