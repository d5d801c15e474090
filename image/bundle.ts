/**
 * The project as the image carries it: bundled by esbuild into a few files, because a bundle starts faster and holds less
 * memory than two thousand modules. Used by `Dockerfile` and by the images that the cluster tests build without Docker.
 *
 * - Packages with native code stay packages: copied into `node_modules` beside the bundle, with their prebuilt binaries.
 * - Dynamic imports stay lazy (code splitting), so a command loads only what it needs. A CommonJS package that is imported so
 *   would lose its named exports in a bundle, so it is imported through a module that names what Node finds in it.
 * - `new URL('./file', import.meta.url)` in our sources names a file that goes along: a `.ts` file becomes an entry of its own
 *   (workers), anything else is copied. Where the name is not written there (`new URL(name, import.meta.url)`), all files
 *   beside the source go along, but for TypeScript. `import.meta.dirname` would be another folder after bundling and is refused.
 *
 * What is started for every mount is there a second time, each process in one file (starts.ts).
 *
 * Usage: node image/bundle.ts OUTPUT_FOLDER [ENTRY]
 */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { build } from 'esbuild';
import { bundleStarts } from './starts.ts';
import { native, absent, root, takeAlong } from './take-along.ts';

/** Copies a package and the optional packages of this platform that hold its binary. */
function copyNative(name: string, output: string): void {
  const modules = join(root, 'node_modules');
  const from = realpathSync(join(modules, name));
  const manifest = JSON.parse(readFileSync(join(from, 'package.json'), 'utf8')) as {
    readonly dependencies?: Readonly<Record<string, string>>;
    readonly optionalDependencies?: Readonly<Record<string, string>>;
  };
  // Sources and headers are for those who compile it themselves.
  const unwanted = new Set(['vendor', 'doc', 'CHANGELOG.md', 'README.md'].map((entry) => join(from, entry)));
  cpSync(from, join(output, 'node_modules', name), { recursive: true, filter: (path) => !unwanted.has(path) });
  for (const each of Object.keys(manifest.dependencies ?? {})) copyNative(each, output);
  for (const each of Object.keys(manifest.optionalDependencies ?? {}))
    if (existsSync(join(modules, each))) copyNative(each, output);
}

/**
 * Bundles `entry` into `output/main.js` with everything it needs beside it. `output` must not hold anything yet.
 *
 * @param entry absolute path of the program's TypeScript source. @default src/main.ts
 */
export async function bundle(output: string, entry: string = join(root, 'src', 'main.ts')): Promise<void> {
  if (existsSync(output) && readdirSync(output).length > 0) throw new Error(`${output} is not empty`);
  mkdirSync(output, { recursive: true });
  const workers = new Set<string>();
  for (let known = -1; known < workers.size;) {
    known = workers.size;
    const names = new Map([['main', entry], ...[...workers].map((file): [string, string] => [basename(file, '.ts'), file])]);
    if (names.size !== workers.size + 1) throw new Error(`two programs have one name: ${[entry, ...workers].join(', ')}`);
    const { outputFiles } = await build({
      write: false,
      entryPoints: Object.fromEntries(names),
      outdir: output,
      absWorkingDir: root,
      bundle: true,
      splitting: true,
      format: 'esm',
      platform: 'node',
      target: 'node24',
      minifySyntax: true,
      minifyWhitespace: true,
      legalComments: 'none',
      logLevel: 'warning',
      chunkNames: 'chunk-[hash]',
      external: [...native, ...absent],
      // CommonJS packages call require(), which modules do not have.
      banner: { js: `import{createRequire as __createRequire}from'node:module';const require=__createRequire(import.meta.url);` },
      plugins: [takeAlong(output, workers)],
    });
    // Chunks of a round that did not know all programs would stay behind.
    if (known === workers.size) for (const { path, contents } of outputFiles) writeFileSync(path, contents);
  }
  if (entry === join(root, 'src', 'main.ts')) await bundleStarts(output, 'beside');
  for (const name of native) copyNative(name, output);
  writeFileSync(join(output, 'package.json'), '{"type":"module"}\n');
}

if (import.meta.main) {
  const [output, entry] = process.argv.slice(2);
  if (!output) throw new Error('usage: node image/bundle.ts OUTPUT_FOLDER [ENTRY]');
  await bundle(resolve(output), entry && resolve(entry));
}
