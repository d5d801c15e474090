/** The command line: what there is, and which file does it. Each command is loaded only when it runs. */
import { Argument, Command, CommanderError, Option } from 'commander';
import packageJson from '../../package.json' with { type: 'json' };
import { UserError } from '../lib/errors.ts';
import { addChangeLog, changeLogOptions } from './program-changelog.ts';
import { addCluster } from './program-cluster.ts';
import { addControl } from './program-control.ts';
import { addBenchmarks, addObservation } from './program-observe.ts';
import { addMount } from './program-mount.ts';
import { addMaintenance } from './program-maintenance.ts';
import { explained, output, run, storage } from './program-parts.ts';
import { addDump } from './program-dump.ts';
import { addQuota } from './program-quota.ts';
import { addStores } from './program-stores.ts';
import { fail } from './report.ts';

const HELP = `
A volume is a JuiceFS Community Edition volume: names in Redis, PostgreSQL,
MySQL or SQLite (where, META-URL says), bytes in S3 or a folder.

Without a cluster:     juicepod play examples/quickstart
On this machine:       juicepod format sqlite3:///tmp/v.db vol --bucket /tmp/vol
                       juicepod mount sqlite3:///tmp/v.db /mnt/vol -d
What would a pod get:  juicepod inject -f pod.yaml
Why does it not:       juicepod analyze my-pod
On a cluster:          kubectl apply -k config/default
`;

/** The whole tree of commands. `quiet` leaves what is wrong with the arguments to the caller, as a CommanderError. */
export function program(quiet = false): Command {
  const juicepod = new Command('juicepod')
    .exitOverride()
    .configureOutput(quiet ? { writeErr() {} } : {})
    .description('Shared POSIX file systems for serverless Kubernetes pods, on JuiceFS volumes.')
    .version(packageJson.version)
    .addHelpText('after', HELP)
    .showHelpAfterError('(juicepod --help lists the commands, juicepod COMMAND --help explains one)');

  juicepod.commandsGroup('Volumes:');
  changeLogOptions(
    storage(
      juicepod
        .command('format')
        .summary('make a volume')
        .description(
          'Makes a volume: checks the object store, writes the settings into the metadata database. Running it again on a volume of that name changes what may change.',
        )
        .argument('<META-URL>')
        .argument('<NAME>', 'name of the volume: 3 to 63 lower-case letters, digits and dashes; the prefix of all its objects'),
    ),
  )
    .option('--block-size <size>', 'size of a block, 64K to 16M', '4M')
    .option('--compress <algorithm>', 'none, lz4 or zstd', 'none')
    .option('--trash-days <days>', 'how long removed files are kept; 0 removes them at once')
    .option('--storage-class <name>', 'storage class of the objects (STANDARD_IA, …), or access tier of Azure (Cool)')
    .option('--hash-prefix', 'spread the names of objects by a hash prefix')
    .option('--enable-acl', 'keep POSIX access control lists (setfacl); cannot be switched off again')
    .option('--encrypt-rsa-key <file>', 'encrypt objects: PEM of a private RSA key, its passphrase in env JFS_RSA_PASSPHRASE')
    .option('--encrypt-algo <algorithm>', 'aes256gcm-rsa or chacha20-rsa (default: aes256gcm-rsa)')
    .option('--no-update', 'leave a volume that is there as it is')
    .addOption(output())
    .action(run(async (options, url = '', name = '') => (await import('./volume/format.ts')).formatCommand(url, name, options)));

  addMount(juicepod);

  juicepod
    .command('umount')
    .summary('unmount a volume')
    .description(
      'Unmounts a volume after everything written is stored, or with --writeback in the cache directory, where the next mount finds it.',
    )
    .argument('<MOUNTPOINT>')
    .option('-f, --flush', 'with --writeback: first wait until everything is uploaded')
    .option('--force', 'unmount although files are open; programs that use them get errors')
    .addOption(output())
    .action(run(async (options, mountPoint = '') => (await import('./mount/umount.ts')).umountCommand(mountPoint, options)));

  juicepod
    .command('status')
    .summary('show a volume: settings, usage, sessions')
    .argument('<META-URL>')
    .option('-s, --session <sid>', 'show what one session holds: removed files that are open, locks')
    .option('-m, --more', 'also count what is in the trash and what waits to be deleted; takes a while in a large volume')
    .addOption(output())
    .action(run(async (options, url = '') => (await import('./volume/status.ts')).statusCommand(url, options)));

  changeLogOptions(
    storage(
      juicepod
        .command('config')
        .summary('show or change the settings of a volume')
        .description(
          'Without options shows the settings. With options changes them; mounted clients take that over within a heartbeat (12 s).',
        )
        .argument('<META-URL>'),
    ),
  )
    .option('--capacity <size>', 'what the volume may hold, in GiB or with a unit (500G, 2T); 0 is no limit')
    .option('--inodes <count>', 'files and directories that it may hold; 0 is no limit')
    .option('--trash-days <days>', 'how long removed files are kept; 0 removes them at once')
    .option('--upload-limit <rate>', 'bandwidth of each client to the object store, Mbit/s; 0 is no limit')
    .option('--download-limit <rate>', 'bandwidth of each client from the object store, Mbit/s; 0 is no limit')
    .option('--dir-stats [switch]', 'keep statistics of directories, which quotas of directories need (=false: do not)')
    .option('--user-group-quota [switch]', 'count what users and groups own, which their quotas need (=false: do not)')
    .option('--enable-acl', 'keep POSIX access control lists (setfacl), in mounts made from now on; cannot be switched off again')
    .option('--min-client-version <version>', 'oldest client that may mount')
    .option('--max-client-version <version>', 'newest client that may mount')
    .option('-y, --yes', 'also what would be asked about first')
    .option('--force', 'neither ask nor try the object store')
    .addOption(output())
    .action(run(async (options, url = '') => (await import('./volume/config.ts')).configCommand(url, options)));

  addQuota(juicepod);
  addChangeLog(juicepod);
  addStores(juicepod);
  addMaintenance(juicepod);
  addDump(juicepod);

  juicepod
    .command('rotate-passphrase')
    .summary('put the key of an encrypted volume under another passphrase')
    .description(
      'Puts the RSA key of an encrypted volume under another passphrase; no object is written. The old passphrase is taken from JFS_RSA_PASSPHRASE. Clients that run go on, those that start later need the new one.',
    )
    .argument('<META-URL>')
    .option(
      '--new-passphrase-file <file>',
      'file that holds the new passphrase, or - for standard input (or env JFS_RSA_NEW_PASSPHRASE)',
    )
    .addOption(output())
    .action(
      run(async (options, url = '') => (await import('./volume/rotate-passphrase.ts')).rotatePassphraseCommand(url, options)),
    );

  juicepod.commandsGroup('Files of a mounted volume:');
  addControl(juicepod);

  juicepod.commandsGroup('Observing and measuring:');
  addObservation(juicepod);
  addBenchmarks(juicepod);
  juicepod.commandsGroup('Clusters and their pods:');
  addCluster(juicepod);
  juicepod.commandsGroup('More:');

  juicepod
    .command('completion')
    .summary('print a script that completes commands and options in a shell')
    .description(
      'For this shell:  source <(juicepod completion bash)\nFor good:\n  juicepod completion bash > /etc/bash_completion.d/juicepod\n  juicepod completion zsh > "${fpath[1]}/_juicepod"\n  juicepod completion fish > ~/.config/fish/completions/juicepod.fish',
    )
    .addArgument(new Argument('<SHELL>').choices(['bash', 'zsh', 'fish']))
    .action(
      run(async (_options, shell = '') => {
        const { completionScript } = await import('./completion.ts');
        process.stdout.write(completionScript(shell as 'bash' | 'zsh' | 'fish', juicepod));
      }),
    );

  juicepod
    .command('play')
    .summary('run an annotated pod on this machine, without a cluster')
    .description(
      'Takes a folder with a JuiceVolume and an annotated Pod, injects the sidecars with the code of the webhook, and runs sidecars and application as processes of this machine, in mount namespaces of their own.',
    )
    .argument('<FOLDER>')
    .addOption(output())
    .action(run(async (options, folder = '') => (await import('./play/play.ts')).playCommand(folder, options)));

  juicepod.commandsGroup('What runs in a cluster:');
  juicepod
    .command('operator')
    .summary('run the operator')
    .option('--kubeconfig <file>', 'how the cluster is reached (default: the pod’s own account, else KUBECONFIG)')
    .option('--namespace <name>', 'namespace of the lease', process.env['POD_NAMESPACE'] ?? 'juicepod-system')
    .option('--watch-namespaces <names>', 'look after these namespaces only, separated by commas (default: all)')
    .option('--metrics-port <port>', 'port of /metrics, /livez and /readyz', '8080')
    .option('--kube-api-qps <number>', 'requests to the API server per second, on average', '100')
    .option('--kube-api-burst <number>', 'the same, at once', '200')
    .option('--client-image <image>', 'image that the webhook gives to clients, for roll-outs where a volume names none')
    .option('--allow-image <prefix...>', 'as that of the webhook, for roll-outs into pods of other namespaces')
    .option('--log-level <level>', 'debug, info, warn or error', 'info')
    .action(run(async (options) => (await import('./operator.ts')).operatorCommand(options)));

  juicepod
    .command('webhook')
    .summary('run the admission webhook')
    .option('--kubeconfig <file>', 'how the cluster is reached (default: the pod’s own account, else KUBECONFIG)')
    .option('--namespace <name>', 'own namespace', process.env['POD_NAMESPACE'] ?? 'juicepod-system')
    .option('--watch-namespaces <names>', 'know volumes of these namespaces only, separated by commas (default: all)')
    .option('--image <image>', 'image of the sidecars')
    .addOption(
      new Option('--image-pull-policy <policy>', 'pull policy of the sidecars').choices(['Always', 'IfNotPresent', 'Never']),
    )
    .option(
      '--image-pull-secret <name...>',
      'Secrets in the namespaces of pods, added to the imagePullSecrets of pods that get volumes: for a registry of the sidecars that asks for a login',
    )
    .option('--port <port>', 'port of the webhook', '8443')
    .option(
      '--allow-image <prefix...>',
      'images that volumes of other namespaces may choose for the client start with one of these',
    )
    .option('--platform <name>', 'where all pods run, unless they or their namespaces say otherwise (default: told by each pod)')
    .option('--no-pod-security-check', 'leave Pod Security to the API server (for clusters that exempt namespaces)')
    .option('--no-storage-requests', 'do not request the disk that caches may take')
    .option('--start-timeout <time>', 'how long a client may take, when its pod begins, until every mount answers (default: 2m)')
    .option('--client-metrics-port <port>', 'port at which clients serve /metrics in their pods; 0: they do not', '9567')
    .option('--cert-dir <folder>', 'take tls.crt and tls.key from this folder, instead of own ones; read again when they change')
    .option('--tls-cert <file>', 'the same, with files of other names: certificate')
    .option('--tls-key <file>', 'key of the certificate')
    .option('--log-level <level>', 'debug, info, warn or error', 'info')
    .action(run(async (options) => (await import('./webhook.ts')).webhookCommand(options)));

  juicepod
    .command('hold')
    .summary('keep the mounts of a pod while its client is restarted (used by the sidecar)')
    .option('--socket <path>', 'where the client comes')
    .option('--mount <path...>', 'mount points to guard')
    .action(() => {});

  juicepod
    .command('sync-sidecar')
    .summary('copy volumes into a pod that may not mount, and write changes back (used by the sidecar)')
    .option('--plan <file>', 'plan of the pod')
    .option('--ready <file>', 'made when all files are there')
    .action(() => {});

  return explained(juicepod);
}

/** Parses the arguments and runs the command. Arguments that are wrong end the process with 1, as errors of a command do. */
export async function main(argv: readonly string[]): Promise<void> {
  // A reader that has seen enough (`| head`) is no failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
  const json = argv.some(
    (word, index) =>
      word === '--output=json' || word === '-ojson' || (/^(-o|--output)$/.test(word) && argv[index + 1] === 'json'),
  );
  // Nothing is left that could wake it: it would end as if all were done.
  const stuck = (): void =>
    fail(new Error('the command has come to a stop before its end; what it has not said is not done'), json ? 'json' : 'text');
  process.once('beforeExit', stuck);
  try {
    await program(json).parseAsync(argv);
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    // --help and --version end here too; in text the sentence has been printed.
    if (error.exitCode === 0) return;
    if (!json) process.exit(1);
    fail(
      new UserError('InvalidArguments', error.message.replace(/^error: /, ''), {
        hint: 'juicepod --help lists the commands, juicepod COMMAND --help explains one',
      }),
      'json',
    );
  } finally {
    process.off('beforeExit', stuck);
  }
}
