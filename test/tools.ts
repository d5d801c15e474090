/**
 * Programs that the tests run beside the project, and how each is had. A tool is looked for, else built or installed into
 * the cache; where it cannot be had, `ToolMissing` says by name what and how to get it, and the test is skipped, never passed.
 *
 * The cache is $JUICEPOD_CACHE, else $XDG_CACHE_HOME/juicepod, else ~/.cache/juicepod. Everything in it can be deleted.
 */
import { execFile, execFileSync } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, userInfo } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

// HOME may be set and empty, as in some CI systems.
const home = homedir() || userInfo().homedir;

export const cacheRoot = process.env['JUICEPOD_CACHE'] || join(process.env['XDG_CACHE_HOME'] || join(home, '.cache'), 'juicepod');

export class ToolMissing extends Error {
  override readonly name = 'ToolMissing';
}

/** The path of an executable on PATH (Debian's sbin folders and Go's and Cargo's own included), or undefined. */
export function onPath(name: string): string | undefined {
  const folders = [
    ...(process.env['PATH'] ?? '').split(delimiter),
    '/usr/local/sbin',
    '/usr/sbin',
    '/sbin',
    '/usr/local/go/bin',
    '/root/.cargo/bin',
    join(home, '.cargo/bin'),
  ];
  for (const folder of folders) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      continue;
    }
  }
  return undefined;
}

/** Debian packages by the program that shows they are there. */
const packages: Readonly<Record<string, string>> = {
  'redis-server': 'redis-server',
  'redis-cli': 'redis-tools',
  fio: 'fio',
  fusermount3: 'fuse3',
  containerd: 'containerd',
  runc: 'runc',
  openssl: 'openssl',
  ip: 'iproute2',
  iptables: 'iptables',
  busybox: 'busybox-static',
  'lua5.4': 'lua5.4',
  zsh: 'zsh',
  fish: 'fish',
  mariadbd: 'mariadb-server-core',
  my_print_defaults: 'mariadb-client-core',
  rclone: 'rclone',
};

function aptInstall(names: readonly string[]): void {
  if (process.getuid?.() !== 0 || !onPath('apt-get'))
    throw new ToolMissing(
      `Debian packages ${names.join(' ')} are missing and only root can install them: apt-get install ${names.join(' ')}`,
    );
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const install = (): void =>
    void execFileSync('apt-get', ['install', '-y', '--no-install-recommends', ...names], { env, stdio: 'pipe' });
  try {
    install();
  } catch {
    execFileSync('apt-get', ['update'], { env, stdio: 'pipe' });
    install();
  }
}

/** Makes sure that Debian programs are there; installs the missing ones in one go. */
export function ensureDebian(...programs: string[]): void {
  const missing = programs.filter((name) => !onPath(name)).map((name) => packages[name] ?? name);
  if (missing.length > 0) aptInstall([...new Set(missing)]);
}

/** Makes sure that Debian packages without a program of their own are there (headers, CNI plugins), shown by a file. */
export function ensureDebianFile(file: string, ...names: string[]): void {
  if (!existsSync(file)) aptInstall(names);
}

async function build(name: string, version: string, compile: (folder: string) => Promise<void>): Promise<string> {
  const folder = join(cacheRoot, 'tools', `${name}-${version}`);
  const binary = join(folder, 'bin', name);
  if (existsSync(binary)) return binary;
  const temporary = `${folder}.${process.pid}`;
  rmSync(temporary, { recursive: true, force: true });
  mkdirSync(temporary, { recursive: true });
  try {
    await compile(temporary);
    rmSync(folder, { recursive: true, force: true });
    renameSync(temporary, folder);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  return binary;
}

/** A Go program by module path, built with `go install` (Go 1.26 or newer), once. */
export function goTool(name: string, module: string, version: string): Promise<string> {
  return build(name, version, async (folder) => {
    const go = onPath('go');
    if (!go)
      throw new ToolMissing(
        `${name}: needs Go 1.26 or newer to be built (go install ${module}@${version}); no go was found on PATH`,
      );
    const caches = join(cacheRoot, 'go');
    const env = {
      ...process.env,
      CGO_ENABLED: '0',
      GOBIN: join(folder, 'bin'),
      GOCACHE: join(caches, 'build'),
      GOMODCACHE: join(caches, 'mod'),
      GOFLAGS: '-modcacherw -buildvcs=false',
    };
    await run(go, ['install', '-trimpath', '-ldflags=-s -w', `${module}@${version}`], { env, maxBuffer: 1 << 26 });
  });
}

/** A Rust program from crates.io, built with `cargo install`, once. */
export function cargoTool(name: string, version: string): Promise<string> {
  return build(name, version, async (folder) => {
    const cargo = onPath('cargo');
    if (!cargo)
      throw new ToolMissing(
        `${name}: needs a current Rust to be built (cargo install ${name}@${version}); no cargo was found on PATH`,
      );
    // rustup's proxies look below HOME, which need not be the one that Rust was installed for.
    const rustup = join(dirname(cargo), '../../.rustup');
    const home = process.env['RUSTUP_HOME'] ?? (existsSync(rustup) ? resolve(rustup) : undefined);
    const env = {
      ...process.env,
      // Cargo looks for rustc there, wherever itself was found.
      PATH: `${dirname(cargo)}:${process.env['PATH'] ?? ''}`,
      CARGO_TARGET_DIR: join(folder, 'target'),
      CARGO_HOME: join(cacheRoot, 'cargo'),
      ...(home ? { RUSTUP_HOME: home } : {}),
    };
    await run(cargo, ['install', '--quiet', '--root', folder, `${name}@${version}`], { env, maxBuffer: 1 << 26 });
    rmSync(join(folder, 'target'), { recursive: true, force: true });
  });
}

/** A program from the npm registry with all that it needs, installed once; install scripts are not run. Answers its folder. */
export async function npmTool(name: string, version: string): Promise<string> {
  const marker = await build(name, version, async (folder) => {
    const npm = onPath('npm');
    if (!npm)
      throw new ToolMissing(`${name}: needs npm to be installed (npm install ${name}@${version}); no npm was found on PATH`);
    const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-save'];
    await run(npm, ['install', '--prefix', folder, ...flags, `${name}@${version}`], { maxBuffer: 1 << 26 });
    mkdirSync(join(folder, 'bin'), { recursive: true });
    writeFileSync(join(folder, 'bin', name), '');
  });
  return join(dirname(dirname(marker)), 'node_modules', name);
}

/** Why tests of a program cannot run here, or false: for `skip`. */
export async function cannotHave(tool: () => Promise<unknown>): Promise<string | false> {
  try {
    await tool();
    return false;
  } catch (error) {
    if (error instanceof ToolMissing) return error.message;
    throw error;
  }
}

/** The S3 server of the tests. */
export const versitygw = (): Promise<string> => goTool('versitygw', 'github.com/versity/versitygw/cmd/versitygw', 'v1.8.0');
/** Another S3 server, with its own reading of the protocol. */
export const minio = (): Promise<string> => goTool('minio', 'github.com/minio/minio', 'v0.0.0-20260212201848-7aac2a2c5b7c');
/** A server of Azure's Blob service. */
export const azurite = (): Promise<string> => npmTool('azurite', '3.34.0');
/** Renders and installs charts; what the chart of this project is checked with. */
export const helm = (): Promise<string> => goTool('helm', 'helm.sh/helm/v3/cmd/helm', 'v3.22.0');
/** The POSIX test suite; needs the ACL headers. */
export const pjdfstest = (): Promise<string> => {
  ensureDebianFile('/usr/include/sys/acl.h', 'libacl1-dev', 'acl');
  return cargoTool('pjdfstest', '0.2.2');
};
const PJDFSTEST_C = '85a8aea9e685999ef0540392fd80535f873d7ff7';

/** What its configure script would find out on Linux. */
const PJDFSTEST_FEATURES =
  'SYS_SYSMACROS_H FACCESSAT FCHMODAT FCHOWNAT FSTATAT LINKAT MKDIRAT MKFIFOAT MKNODAT OPENAT POSIX_FALLOCATE READLINKAT RENAMEAT SYMLINKAT UNLINKAT UTIMENSAT STRUCT_STAT_ST_ATIM STRUCT_STAT_ST_CTIM STRUCT_STAT_ST_MTIM'.split(
    ' ',
  );

/**
 * The POSIX test suite's original in C and shell: its program, beside the folder `tests`. Its source is cloned from its repository, or taken from the checkout that
 * PJDFSTEST_SOURCE names.
 */
export const pjdfstestC = (): Promise<string> =>
  build('pjdfstest', `c-${PJDFSTEST_C.slice(0, 7)}`, async (folder) => {
    const [git, cc] = [onPath('git'), onPath('cc')];
    if (!git || !cc) throw new ToolMissing('pjdfstest in C: needs git and a C compiler (apt-get install git gcc libc6-dev)');
    const source = process.env['PJDFSTEST_SOURCE'] || 'https://github.com/pjd/pjdfstest';
    const bin = join(folder, 'bin');
    try {
      await run(git, ['clone', '--quiet', '--no-checkout', source, bin], { timeout: 120_000 });
      await run(git, ['-C', bin, 'checkout', '--quiet', PJDFSTEST_C]);
    } catch (error) {
      const reason = error instanceof Error ? (error.message.trim().split('\n').at(-1) ?? '') : '';
      throw new ToolMissing(
        `pjdfstest in C: ${source} cannot be cloned (${reason}); name a checkout of ${PJDFSTEST_C.slice(0, 7)} in PJDFSTEST_SOURCE`,
        { cause: error },
      );
    }
    writeFileSync(
      join(bin, 'config.h'),
      ['_GNU_SOURCE', ...PJDFSTEST_FEATURES.map((name) => `HAVE_${name}`)].map((name) => `#define ${name} 1\n`).join(''),
    );
    await run(cc, ['-O1', '-o', join(bin, 'pjdfstest'), join(bin, 'pjdfstest.c')]);
  });
/** Random reads and writes checked against a model. */
export const fsx = (): Promise<string> => cargoTool('fsx', '0.3.2');

/** The official client, the judge of the format; never built by us. Undefined where JUICEFS_BIN does not name it. */
export function juicefs(): string | undefined {
  const path = process.env['JUICEFS_BIN'];
  return path && existsSync(path) ? path : undefined;
}
