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
 * Usage: node image/bundle.ts OUTPUT_FOLDER [ENTRY]
 */
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { build, type Plugin } from 'esbuild';

const root = resolve(import.meta.dirname, '..');

/** Packages whose native binary is found by where the package lies. */
const native = ['koffi', 'lz4-napi', '@node-rs/crc32'];
/** Loaded only if it is there, and not in the image: it is for machines without /dev/fuse. */
const absent = ['fuse-native'];

const reference = /new URL\(\s*(['"])(\.\.?\/[^'"]+)\1\s*,\s*import\.meta\.url\s*\)/g;

/** The same with a name that is only known when it runs. */
const anyReference = /new URL\(\s*(\w+)\s*,\s*import\.meta\.url\s*\)/g;

/** A package that is loaded when it is wanted. */
const lazyPackage = /\bimport\(\s*['"]([^.'"/][^'"]*)['"]\s*\)/g;

/** Takes the files that our sources name by URL along; `workers` collects those that are programs themselves. */
function takeAlong(output: string, workers: Set<string>): Plugin {
  return {
    name: 'take-along',
    setup(bundler) {
      bundler.onLoad({ filter: /\.ts$/ }, ({ path }) => {
        if (path.includes('/node_modules/')) return undefined;
        const text = readFileSync(path, 'utf8');
        if (/import\.meta\.(dirname|filename)\b/.test(text) && !path.endsWith('.test.ts'))
          return { errors: [{ text: `${path} uses import.meta.dirname: name the file by new URL('./file', import.meta.url)` }] };
        const contents = text.replace(reference, (_, _quote, target: string) => {
          const file = resolve(dirname(path), target);
          if (file.endsWith('.ts')) {
            workers.add(file);
            return `new URL('./${basename(file, '.ts')}.js', import.meta.url)`;
          }
          const bytes = readFileSync(file);
          const name = `${createHash('sha256').update(bytes).digest('hex').slice(0, 8)}-${basename(file)}`;
          mkdirSync(join(output, 'files'), { recursive: true });
          writeFileSync(join(output, 'files', name), bytes);
          return `new URL('./files/${name}', import.meta.url)`;
        });
        const folder = join('files', relative(root, dirname(path)));
        const named = contents.replace(lazyPackage, (whole, name: string) =>
          name.startsWith('node:') || [...native, ...absent].includes(name) ? whole : `import('lazy:${name}')`,
        );
        const complete = named.replace(anyReference, (_, name: string) => {
          for (const file of readdirSync(dirname(path), { withFileTypes: true }))
            if (file.isFile() && !file.name.endsWith('.ts'))
              cpSync(join(dirname(path), file.name), join(output, folder, file.name));
          return `new URL('./${folder}/' + ${name}, import.meta.url)`;
        });
        return { contents: complete, loader: 'ts' };
      });
      bundler.onResolve({ filter: /^lazy:/ }, ({ path }) => ({ path: path.slice('lazy:'.length), namespace: 'lazy' }));
      bundler.onLoad({ filter: /.*/, namespace: 'lazy' }, async ({ path }) => {
        const names = Object.keys((await import(path)) as object).filter(
          (name) => /^[\w$]+$/.test(name) && name !== 'module.exports',
        );
        return { contents: `export { ${names.join(', ')} } from ${JSON.stringify(path)};`, resolveDir: root };
      });
    },
  };
}

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
    await build({
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
      keepNames: true,
      legalComments: 'none',
      logLevel: 'warning',
      chunkNames: 'chunk-[hash]',
      external: [...native, ...absent],
      // CommonJS packages call require(), which modules do not have.
      banner: { js: `import{createRequire as __createRequire}from'node:module';const require=__createRequire(import.meta.url);` },
      plugins: [takeAlong(output, workers)],
    });
  }
  for (const name of native) copyNative(name, output);
  writeFileSync(join(output, 'package.json'), '{"type":"module"}\n');
}

if (import.meta.main) {
  const [output, entry] = process.argv.slice(2);
  if (!output) throw new Error('usage: node image/bundle.ts OUTPUT_FOLDER [ENTRY]');
  await bundle(resolve(output), entry && resolve(entry));
}
