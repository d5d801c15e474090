/** The command line: what there is, and which file does it. Each command is loaded only when it runs. */
import { Command, CommanderError, Option } from 'commander';
import packageJson from '../../package.json' with { type: 'json' };
import { UserError } from '../lib/errors.ts';
import { fail, type Output } from './report.ts';

const output = (): Option => new Option('--output <form>', 'how results are printed').choices(['text', 'json']).default('text');

const HELP = `
A volume is a JuiceFS Community Edition volume: names in Redis or SQLite, bytes in S3 or a folder.
META-URL is redis://[user:password@]host[:6379]/db, rediss://… or sqlite3://path. Passwords are better given in META_PASSWORD.

Try it without a cluster:       juicepod play examples/quickstart
A volume on this machine:       juicepod format sqlite3:///tmp/my.db my-volume --bucket /tmp/my-objects
                                juicepod mount sqlite3:///tmp/my.db /mnt/my-volume -d
What would a pod get:           juicepod inject -f pod.yaml
On a cluster:                   kubectl apply -k config/default
`;

/** What every action gets: positional arguments, then options. */
type Action = (options: Record<string, unknown>, ...args: string[]) => Promise<void>;

/** Runs an action; what it throws is told as one sentence and ends the process with 1. */
function run(action: Action): (...all: unknown[]) => Promise<void> {
  return async (...all) => {
    const command = all.at(-1) as Command;
    const options = all.at(-2) as Record<string, unknown>;
    try {
      await action(options, ...(all.slice(0, -2) as string[]));
    } catch (error) {
      fail(error, (command.opts()['output'] as Output | undefined) ?? 'text');
    }
  };
}

function storage(command: Command): Command {
  return command
    .option('--storage <type>', 'object store: file, s3 or minio')
    .option('--bucket <url>', 'folder, or URL of the bucket: http(s)://host[:port]/bucket')
    .option('--access-key <key>', 'access key of the object store (or env ACCESS_KEY)')
    .option('--secret-key <key>', 'secret key of the object store (or env SECRET_KEY)')
    .option('--session-token <token>', 'session token of the object store (or env SESSION_TOKEN)');
}

/** The whole tree of commands. `quiet` leaves what is wrong with the arguments to the caller, as a CommanderError. */
export function program(quiet = false): Command {
  const juicepod = new Command('juicepod')
    .exitOverride()
    .configureOutput(quiet ? { writeErr() {} } : {})
    .description('Shared POSIX file systems for serverless Kubernetes pods, on JuiceFS volumes.')
    .version(packageJson.version)
    .addHelpText('after', HELP)
    .showHelpAfterError('(juicepod --help lists the commands, juicepod COMMAND --help explains one)');

  storage(
    juicepod
      .command('format')
      .summary('make a volume')
      .description(
        'Makes a volume: checks the object store, writes the settings into the metadata database. Running it again on a volume of that name changes what may change.',
      )
      .argument('<META-URL>')
      .argument('<NAME>', 'name of the volume: 3 to 63 lower-case letters, digits and dashes; the prefix of all its objects'),
  )
    .option('--block-size <size>', 'size of a block, 64K to 16M', '4M')
    .option('--compress <algorithm>', 'none, lz4 or zstd', 'none')
    .option('--trash-days <days>', 'how long removed files are kept; 0 removes them at once')
    .option('--hash-prefix', 'spread the names of objects by a hash prefix')
    .option('--encrypt-rsa-key <file>', 'encrypt objects: PEM of a private RSA key, its passphrase in env JFS_RSA_PASSPHRASE')
    .option('--encrypt-algo <algorithm>', 'aes256gcm-rsa or chacha20-rsa (default: aes256gcm-rsa)')
    .option('--no-update', 'leave a volume that is there as it is')
    .addOption(output())
    .action(run(async (options, url = '', name = '') => (await import('./format.ts')).formatCommand(url, name, options)));

  storage(
    juicepod
      .command('mount')
      .summary('mount a volume')
      .description('Mounts a volume. A parent process keeps the mount over a crash of the client and unmounts at the end.')
      .argument('[META-URL]')
      .argument('[MOUNTPOINT]'),
  )
    .option('-d, --background', 'go to the background when the mount answers')
    .option('--log <path>', 'log file when in the background (default: /var/log/juicepod.log, or ~/.juicepod/juicepod.log)')
    .option('--read-only', 'allow no changes')
    .option('--subdir <path>', 'mount a directory of the volume as the root')
    .option('--enable-xattr', 'allow extended attributes')
    .option('--hide-internal', 'leave .accesslog, .config and .stats out of listings')
    .option('-o <options>', 'FUSE options, separated by commas: allow_other, ro')
    .option('--attr-cache <time>', 'how long the kernel trusts attributes', '1.0s')
    .option('--entry-cache <time>', 'how long the kernel trusts names of files', '1.0s')
    .option('--dir-entry-cache <time>', 'how long the kernel trusts names of directories', '1.0s')
    .option('--negative-entry-cache <time>', 'how long the kernel trusts that a name does not exist', '0s')
    .option('--cache-dir <path>', 'folder of the block cache, or memory (default: /var/jfsCache, or ~/.juicefs/cache)')
    .option('--cache-size <size>', 'bytes of the block cache', '100G')
    .option('--free-space-ratio <ratio>', 'part of the disk that is left free', '0.1')
    .option('--buffer-size <size>', 'memory for data being read and written', '300M')
    .option('--max-readahead <size>', 'what one open file reads ahead at most', '32M')
    .option('--max-uploads <count>', 'uploads at once', '20')
    .option('--max-downloads <count>', 'downloads at once', '200')
    .option('--io-retries <count>', 'attempts of a request to the object store after the first one', '10')
    .option('--heartbeat <time>', 'how often the session is renewed', '12s')
    .option('--no-bgjob', 'leave cleaning up to other clients')
    .option('--plan <file>', 'mount what the plan of a pod says (used by the sidecar)')
    .option('--socket <path>', 'socket of the holder that keeps the mounts (used by the sidecar)')
    .addOption(output())
    .action(run(async (options, url, mountPoint) => (await import('./mount.ts')).mountCommand(url, mountPoint, options)));

  juicepod
    .command('umount')
    .summary('unmount a volume')
    .description('Unmounts a volume after everything written is stored.')
    .argument('<MOUNTPOINT>')
    .option('-f, --flush', 'wait until the client has ended')
    .option('--force', 'unmount although files are open; programs that use them get errors')
    .addOption(output())
    .action(run(async (options, mountPoint = '') => (await import('./umount.ts')).umountCommand(mountPoint, options)));

  juicepod
    .command('status')
    .summary('show a volume: settings, usage, sessions')
    .argument('<META-URL>')
    .addOption(output())
    .action(run(async (options, url = '') => (await import('./status.ts')).statusCommand(url, options)));

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
    .action(run(async (options, url = '') => (await import('./rotate-passphrase.ts')).rotatePassphraseCommand(url, options)));

  juicepod
    .command('info')
    .summary('show what a file or directory of a mounted volume is made of')
    .argument('<PATH...>')
    .option('-i, --inode', 'PATH is an inode number; the current directory lies in the volume')
    .option('-r, --recursive', 'count everything below a directory')
    .addOption(output())
    .action(
      run(async (options, paths) => (await import('./info.ts')).infoCommand(paths as unknown as readonly string[], options)),
    );

  juicepod
    .command('inject')
    .summary('show what the webhook would add to a pod')
    .description(
      'Reads pods and workloads from files, adds what the webhook would add, and prints them. JuiceVolumes in the same files are taken as ready.',
    )
    .requiredOption('-f, --filename <file...>', 'YAML files; - is standard input')
    .option('--image <image>', 'image of the sidecars')
    .option('--diff', 'print what was added instead of the whole')
    .addOption(output())
    .action(run(async (options) => (await import('./inject.ts')).injectCommand(options)));

  juicepod
    .command('play')
    .summary('run an annotated pod on this machine, without a cluster')
    .description(
      'Takes a folder with a JuiceVolume and an annotated Pod, injects the sidecars with the code of the webhook, and runs sidecars and application as processes of this machine, in mount namespaces of their own.',
    )
    .argument('<FOLDER>')
    .addOption(output())
    .action(run(async (options, folder = '') => (await import('./play/play.ts')).playCommand(folder, options)));

  juicepod
    .command('operator')
    .summary('run the operator')
    .option('--kubeconfig <file>', 'how the cluster is reached (default: the pod’s own account, else KUBECONFIG)')
    .option('--namespace <name>', 'namespace of the lease', process.env['POD_NAMESPACE'] ?? 'juicepod-system')
    .option('--metrics-port <port>', 'port of /metrics, /livez and /readyz', '8080')
    .option('--kube-api-qps <number>', 'requests to the API server per second, on average', '100')
    .option('--kube-api-burst <number>', 'the same, at once', '200')
    .option('--log-level <level>', 'debug, info, warn or error', 'info')
    .action(run(async (options) => (await import('./operator.ts')).operatorCommand(options)));

  juicepod
    .command('webhook')
    .summary('run the admission webhook')
    .option('--kubeconfig <file>', 'how the cluster is reached (default: the pod’s own account, else KUBECONFIG)')
    .option('--namespace <name>', 'own namespace', process.env['POD_NAMESPACE'] ?? 'juicepod-system')
    .option('--image <image>', 'image of the sidecars')
    .addOption(
      new Option('--image-pull-policy <policy>', 'pull policy of the sidecars').choices(['Always', 'IfNotPresent', 'Never']),
    )
    .option('--port <port>', 'port of the webhook', '8443')
    .option(
      '--allow-image <prefix...>',
      'images that volumes of other namespaces may choose for the client start with one of these',
    )
    .option('--no-pod-security-check', 'leave Pod Security to the API server (for clusters that exempt namespaces)')
    .option('--tls-cert <file>', 'certificate, instead of own ones')
    .option('--tls-key <file>', 'key of the certificate')
    .option('--log-level <level>', 'debug, info, warn or error', 'info')
    .action(run(async (options) => (await import('./webhook.ts')).webhookCommand(options)));

  juicepod
    .command('hold')
    .summary('keep the mounts of a pod while its client is restarted (used by the sidecar)')
    .option('--socket <path>', 'where the client comes')
    .option('--mount <path...>', 'mount points to guard')
    .action(() => {});

  return juicepod;
}

/** Parses the arguments and runs the command. Arguments that are wrong end the process with 1, as errors of a command do. */
export async function main(argv: readonly string[]): Promise<void> {
  // A reader that has seen enough (`| head`) is no failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
  const json = argv.some((word, index) => word === '--output=json' || (word === '--output' && argv[index + 1] === 'json'));
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
  }
}
