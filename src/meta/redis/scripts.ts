/** The scripts that Redis runs for us, read from the files beside this one; each says in its head what it takes and answers. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Script } from './connection.ts';

function load(name: string): Script {
  const source = readFileSync(new URL(name, import.meta.url), 'utf8');
  return { source, sha: createHash('sha1').update(source).digest('hex') };
}

export const commitScript = load('commit.lua');
export const lookupScript = load('lookup.lua');
export const readLogScript = load('readlog.lua');
export const trimLogScript = load('trimlog.lua');
