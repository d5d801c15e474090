/**
 * Gets every program that the tests run beside the project, one after the other, with a line each. A program that cannot be had
 * here is no failure: its tests say so and are skipped.
 */
import { ensureKubernetes } from './cluster/build.ts';
import {
  azurite,
  ensureDebian,
  ensureDebianFile,
  fsx,
  helm,
  juicefs,
  minio,
  pjdfstest,
  pjdfstestC,
  ToolMissing,
  versitygw,
} from './tools.ts';

interface Program {
  readonly name: string;
  readonly get: () => unknown;
}

const programs: readonly Program[] = [
  {
    name: 'Debian packages',
    get: () =>
      ensureDebian(
        'redis-server',
        'redis-cli',
        'fio',
        'fusermount3',
        'containerd',
        'runc',
        'openssl',
        'ip',
        'iptables',
        'busybox',
        'mariadbd',
        'my_print_defaults',
        'rclone',
      ),
  },
  { name: 'PostgreSQL', get: () => ensureDebianFile('/usr/lib/postgresql', 'postgresql') },
  { name: 'versitygw (S3 server)', get: versitygw },
  { name: 'MinIO (another S3 server; some minutes the first time)', get: minio },
  { name: 'Azurite (Azure Blob server)', get: azurite },
  { name: 'helm (the chart)', get: helm },
  { name: 'pjdfstest (POSIX suite)', get: pjdfstest },
  { name: 'pjdfstest in C (the original)', get: pjdfstestC },
  { name: 'fsx (random I/O)', get: fsx },
  { name: 'Kubernetes (7 to 10 minutes the first time)', get: ensureKubernetes },
];

/** True where each program is there, or is one that cannot be had here. */
export async function prepareAll(): Promise<boolean> {
  let ok = true;
  for (const { name, get } of programs) {
    const begin = performance.now();
    try {
      await get();
      console.log(`  ${name}: there (${Math.round((performance.now() - begin) / 1000)} s)`);
    } catch (error) {
      console.log(`  ${name}: ${error instanceof Error ? error.message : String(error)}`);
      if (!(error instanceof ToolMissing)) ok = false;
    }
  }
  console.log(
    juicefs()
      ? `  the official client: ${juicefs()}`
      : '  the official client: absent (name its binary in JUICEFS_BIN to test against it)',
  );
  return ok;
}
