/** What bundles of the project have in common: where it is, which packages stay packages, and what goes along with sources. */
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import type { Plugin } from 'esbuild';

export const root = resolve(import.meta.dirname, '..');

/** Packages whose native binary is found by where the package lies. */
export const native = ['koffi', 'lz4-napi', '@node-rs/crc32'];
/** Loaded only if it is there, and not in the image: it is for machines without /dev/fuse. */
export const absent = ['fuse-native'];

const reference = /new URL\(\s*(['"])(\.\.?\/[^'"]+)\1\s*,\s*import\.meta\.url\s*\)/g;

/** The same with a name that is only known when it runs. */
const anyReference = /new URL\(\s*(\w+)\s*,\s*import\.meta\.url\s*\)/g;

/** A package that is loaded when it is wanted, without waiting. Bundles have a `require`, which the bundler sees through. */
const ownRequire = /createRequire\(import\.meta\.url\)(?=\(')/g;

/** A package that is loaded when it is wanted. */
const lazyPackage = /\bimport\(\s*['"]([^.'"/][^'"]*)['"]\s*\)/g;

/**
 * Takes the files that our sources name by URL along; `workers` collects those that are programs themselves. `lazily`: packages
 * that are imported when they are wanted become chunks of their own.
 */
export function takeAlong(output: string, workers: Set<string>, lazily = true): Plugin {
  return {
    name: 'take-along',
    setup(bundler) {
      bundler.onLoad({ filter: /\.ts$/ }, ({ path }) => {
        if (path.includes('/node_modules/')) return undefined;
        const text = readFileSync(path, 'utf8');
        if (/import\.meta\.(dirname|filename)\b/.test(text) && !path.endsWith('.test.ts'))
          return { errors: [{ text: `${path} uses import.meta.dirname: name the file by new URL('./file', import.meta.url)` }] };
        const contents = text.replace(ownRequire, 'require').replace(reference, (_, _quote, target: string) => {
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
          !lazily || name.startsWith('node:') || [...native, ...absent].includes(name) ? whole : `import('lazy:${name}')`,
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
