/**
 * The processes that are started for every mount, each as one file: a start loads one file instead of three hundred modules, which
 * is half of what it takes. `start.cjs` is src/main.ts, beside it what that imports for them:
 *
 * - `mount.cjs`: the command line as whoever mounts calls it, which becomes the holder; `hold.cjs` and `supervise.cjs`: the holder;
 *   `serve.cjs`: the client. Everything else stays with the other programs (`program`).
 * - CommonJS, because its `require` loads when it is reached: an import of a module's would load databases' drivers at the start.
 *   What is imported dynamically lies in the same file, and runs when it is wanted.
 * - Packages are in the file where nearly every start needs them. The others are loaded when they are wanted: `outside` from
 *   node_modules, `beside` (the image) from files of their own.
 *
 * In a checkout (`bin/juicepod`) they lie in `.bundle`, made when the dependencies are installed or by `npm run bundle`. `.built` in
 * there is older than what was read, and says for which checkout: with anything changed afterwards the sources are run.
 *
 * Usage: node image/starts.ts          (of a checkout)
 */
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build, type BuildOptions, type Plugin } from 'esbuild';
import { absent, native, root, takeAlong } from './take-along.ts';

/** What src/main.ts imports, and the file that it is in. */
const programs: Readonly<Record<string, string>> = {
  './cli/mount/start.ts': 'mount',
  './cli/mount/hold.ts': 'hold',
  './cli/mount/supervise.ts': 'supervise',
  './cli/mount/serve.ts': 'serve',
};

/** Packages that are part of the files. */
const inside = new Set(['ioredis', 'commander', 'koffi']);

const common: BuildOptions = {
  absWorkingDir: root,
  bundle: true,
  format: 'cjs',
  platform: 'node',
  target: 'node24',
  // Every `import()` becomes a `require`, which needs none of the loader of modules.
  supported: { 'dynamic-import': false },
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: 'none',
  logLevel: 'warning',
  define: { 'import.meta.url': '__url' },
  banner: { js: `const __url=require('node:url').pathToFileURL(__filename).href;` },
};

const fileOf = (name: string): string => `package-${name.replaceAll(/[^a-z0-9]+/gi, '-')}.cjs`;

/** Leaves packages that are not `inside` to node_modules or to files beside; `wanted` collects the latter. */
function packages(where: 'outside' | 'beside', wanted: Set<string>): Plugin {
  return {
    name: 'packages',
    setup(bundler) {
      bundler.onResolve({ filter: /^[^./]/ }, ({ path, importer }) => {
        if (path.startsWith('node:')) return { path, external: true };
        if (importer.includes('/node_modules/')) return undefined;
        const name = path
          .split('/')
          .slice(0, path.startsWith('@') ? 2 : 1)
          .join('/');
        if (inside.has(name)) return undefined;
        if (where === 'outside' || native.includes(name) || absent.includes(name)) return { path, external: true };
        wanted.add(path);
        return { path: `./${fileOf(path)}`, external: true };
      });
    },
  };
}

/**
 * Makes src/main.ts load the programs from their files. All else is left to another program, which takes the place of this one:
 * `rest`, relative to the output.
 */
function apart(rest: string): Plugin {
  return {
    name: 'apart',
    setup(bundler) {
      bundler.onResolve({ filter: /\/(cli|program)\b.*\.ts$/ }, ({ path, importer }) => {
        const own = importer === join(root, 'src', 'main.ts');
        if (own && programs[path] !== undefined) return { path: `./${programs[path]}.cjs`, external: true };
        return own || path === '../program.ts' ? { path: 'rest', namespace: 'rest' } : undefined;
      });
      bundler.onLoad({ filter: /^rest$/, namespace: 'rest' }, () => ({
        contents: `const again = () => process.execve(process.execPath, [process.execPath, ...process.execArgv,
          require('node:path').join(__dirname, ${JSON.stringify(rest)}), ...process.argv.slice(2)], process.env);
          exports.main = again; exports.syncSidecarCommand = again;`,
      }));
    },
  };
}

/** Bundles them into `output`. */
export async function bundleStarts(output: string, where: 'outside' | 'beside'): Promise<void> {
  const wanted = new Set<string>();
  const workers = new Set<string>();
  const elsewhere = apart(where === 'outside' ? '../src/main.ts' : 'main.js');
  const plugins = [elsewhere, takeAlong(output, workers, false), packages(where, wanted)];
  const source = join(root, 'src');
  await build({
    ...common,
    entryPoints: Object.fromEntries(Object.entries(programs).map(([path, name]) => [name, join(source, path)])),
    outdir: output,
    outExtension: { '.js': '.cjs' },
    // The binary of this platform; koffi itself is inside.
    external: ['@koromix/*'],
    plugins,
  });
  if (workers.size > 0) throw new Error(`a program of a mount wants threads, which are not bundled: ${[...workers].join(', ')}`);
  await build({ ...common, entryPoints: [join(source, 'main.ts')], outfile: join(output, 'start.cjs'), plugins: [elsewhere] });
  for (const name of wanted)
    await build({
      ...common,
      stdin: { contents: `module.exports = require(${JSON.stringify(name)});`, resolveDir: root },
      outfile: join(output, fileOf(name)),
      external: [...native, ...absent],
    });
}

/** Makes those of this checkout. What runs goes on with the files that it has read. */
async function ofCheckout(): Promise<void> {
  const output = join(root, '.bundle');
  const made = `${output}.${process.pid}`;
  rmSync(made, { recursive: true, force: true });
  mkdirSync(made);
  try {
    writeFileSync(join(made, '.built'), `${root}\n`);
    await bundleStarts(made, 'outside');
    if (existsSync(output)) renameSync(output, `${made}.old`);
    renameSync(made, output);
  } finally {
    rmSync(`${made}.old`, { recursive: true, force: true });
    rmSync(made, { recursive: true, force: true });
  }
}

if (import.meta.main) await ofCheckout();
