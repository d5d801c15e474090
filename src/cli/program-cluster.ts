/** Commands about a cluster and its pods, as they are declared: inject, analyze, cluster, migrate, upgrade. */
import { type Command, Option } from 'commander';
import { output, run, target } from './program-parts.ts';

const ANALYZE =
  'Looks at a pod (or what is to become one), its namespace, the webhook, volumes, policies, Secrets, sidecars and events, as you are allowed to, and says what stands in the way and what to do. Ends with 1 where something does. It changes nothing: the pod is created as a dry run.';

function addAnalyze(parent: Command, summary: string): void {
  target(parent.command('analyze'))
    .summary(summary)
    .description(ANALYZE)
    .argument('[POD]', 'a pod, or what wants one: deployment/NAME, job/NAME, …')
    .option('-f, --filename <file>', 'a manifest, of a pod that could not be created; - is standard input')
    .addOption(output())
    .action(run(async (options, pod) => (await import('./cluster/analyze.ts')).analyzeCommand(pod, options)));
}

/** Adds them to the tree of commands. */
export function addCluster(juicepod: Command): void {
  juicepod
    .command('inject')
    .summary('show what the webhook would add to a pod')
    .description(
      'Reads pods and workloads from files, adds what the webhook would add, and prints them. JuiceVolumes in the same files are taken as ready.',
    )
    .requiredOption('-f, --filename <file...>', 'YAML files; - is standard input')
    .option('--image <image>', 'image of the sidecars')
    .option('-n, --namespace <name>', 'namespace of what names none', 'default')
    .option('--platform <name>', 'where the pods are to run, unless they say otherwise: generic, eks-fargate, gke-autopilot, …')
    .addOption(
      new Option('-o, --output <format>', 'the whole as yaml or json (with plan and reasons), or only what is added')
        .choices(['yaml', 'json', 'diff'])
        .default('yaml'),
    )
    .action(run(async (options) => (await import('./inject.ts')).injectCommand(options)));

  addAnalyze(juicepod, 'say why a pod of a cluster does not get its volume');

  const cluster = juicepod
    .command('cluster')
    .summary('look at the volumes of a cluster and the pods that have them')
    .description('Looks at a cluster; changes nothing. The same as the plugin: kubectl juicepod (bin/kubectl-juicepod).');
  target(cluster.command('status'))
    .summary('operator, webhook, volumes and pods')
    .option('-A, --all-namespaces', 'of all namespaces (default without -n)')
    .addOption(output())
    .action(run(async (options) => (await import('./cluster/overview.ts')).statusCommand(options)));
  target(cluster.command('volumes'))
    .summary('volumes, and whether they are ready')
    .option('-A, --all-namespaces', 'of all namespaces')
    .addOption(output())
    .action(run(async (options) => (await import('./cluster/overview.ts')).volumesCommand(options)));
  target(cluster.command('pods'))
    .summary('pods that have volumes, or one volume')
    .argument('[VOLUME]', 'name or namespace/name')
    .option('-A, --all-namespaces', 'of all namespaces')
    .addOption(output())
    .action(run(async (options, volume) => (await import('./cluster/overview.ts')).podsCommand(volume, options)));
  addAnalyze(cluster, 'the same as juicepod analyze');

  juicepod
    .command('migrate')
    .summary('turn StorageClasses, PVs and PVCs of JuiceFS’s CSI driver into JuiceVolumes')
    .description(
      'Reads objects of JuiceFS’s CSI driver from files, or from a cluster, and prints what stands for them here: JuiceVolumes, Secrets and the annotations of pods; and what a person has to do. It changes and deletes nothing.',
    )
    .option(
      '-f, --filename <file...>',
      'YAML files with StorageClasses, PersistentVolumes, claims, Secrets and pods; - is standard input',
    )
    .option('--kubeconfig <file>', 'read them from the cluster instead (default: KUBECONFIG, else ~/.kube/config)')
    .option('--context <name>', 'context of the kubeconfig')
    .option('-n, --namespace <name>', 'claims and pods of this namespace only (default: all)')
    .option('--secrets', 'write the credentials into the Secrets that are printed, instead of leaving them to be filled in')
    .addOption(output())
    .action(run(async (options) => (await import('./migrate/command.ts')).migrateCommand(options)));

  juicepod
    .command('upgrade')
    .summary('bring an image of the client into running pods, one after the other')
    .description(
      'Changes the image of the client in the running pods of JuiceVolumes and waits for each until it serves again; programs see a pause and no error. Stops at the first pod whose client does not come back, and gives that one its former image again.',
    )
    .argument('[VOLUME...]', 'JuiceVolumes of the namespace (default: all)')
    .option('--image <image>', 'the image (default: what the volume says in spec.client.image)')
    .option('-n, --namespace <name>', 'namespace of the volumes (default: that of the kubeconfig)')
    .option('--kubeconfig <file>', 'how the cluster is reached (default: KUBECONFIG, or the pod’s own account)')
    .option('--max-unavailable <count>', 'clients that may be restarting at the same time', '1')
    .option('--timeout <duration>', 'how long a client may take until it serves again', '5m')
    .option('--retry', 'begin again with pods that failed')
    .option('--dry-run', 'show what would be done')
    .addOption(output())
    .action(
      run(async (options, volumes) =>
        (await import('./cluster/upgrade.ts')).upgradeCommand(volumes as unknown as readonly string[], options),
      ),
    );
}
