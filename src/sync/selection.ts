/**
 * Which part of the volume is hydrated. Globs are relative to the mounted directory: `*` and `?` do not cross a slash, `**`
 * stands for any number of directories, `[a-z]` and `{a,b}` as in a shell. A glob that matches a directory means all below it.
 * Names are compared as bytes: the expressions are made over latin1, one character a byte.
 */

export interface Selection {
  /** True where the whole volume is wanted. */
  readonly all: boolean;
  /** The path itself is wanted. */
  wants(path: Buffer): boolean;
  /** Something below this directory may be wanted. */
  mayContain(path: Buffer): boolean;
}

/** One segment of a glob as an expression over bytes. */
function segment(text: string): string {
  let expression = '';
  for (let at = 0; at < text.length; at++) {
    const character = text[at] ?? '';
    const end = character === '[' ? text.indexOf(']', at + 2) : -1;
    if (character === '*') expression += '[^/]*';
    else if (character === '?') expression += '[^/]';
    else if (end > 0) {
      const inner = text
        .slice(at + 1, end)
        .replace(/[\\\]^]/g, (match, index: number) => (match === '^' && index === 0 ? '' : `\\${match}`));
      expression += text[at + 1] === '!' || text[at + 1] === '^' ? `[^/${inner.replace(/^!/, '')}]` : `[${inner}]`;
      at = end;
    } else expression += character.replace(/[.+^${}()|[\]\\/-]/, '\\$&');
  }
  return expression;
}

/** `{a,b}` written out; nested ones too. At most 256 results, else the braces stand for themselves. */
function braces(glob: string): readonly string[] {
  const match = /\{([^{}]*,[^{}]*)\}/.exec(glob);
  if (!match) return [glob];
  const [whole, list = ''] = match;
  const made = list
    .split(',')
    .flatMap((each) => braces(glob.slice(0, match.index) + each + glob.slice(match.index + whole.length)));
  return made.length > 256 ? [glob] : made;
}

interface Glob {
  /** Matches a wanted path, and everything below one. */
  readonly path: RegExp;
  /** Match a directory above a wanted path, by its depth. */
  readonly above: RegExp;
}

function compile(glob: string): Glob {
  const parts = Buffer.from(glob.replace(/\/+$/, ''), 'utf8').toString('latin1').split('/');
  let path = '';
  let above = '';
  let close = '';
  let open = false;
  for (const [index, part] of parts.entries()) {
    const last = index === parts.length - 1;
    if (part === '**') {
      open = true;
      path += last ? '.*' : '(?:[^/]*/)*';
    } else path += segment(part) + (last ? '' : '/');
    if (open || last) continue;
    above += `(?:${index === 0 ? '' : '/'}${segment(part)}`;
    close += ')?';
  }
  return {
    path: new RegExp(`^${path}(?:/.*)?$`, 's'),
    // Beyond the first `**` any directory may hold a match, if what lies before it fits.
    above: open
      ? new RegExp(`^(?:${above}(?:/.*)?${close}|${above === '' ? '.*' : ''})$`, 's')
      : new RegExp(`^${above}${close}$`, 's'),
  };
}

export function selectionOf(include?: readonly string[], exclude?: readonly string[]): Selection {
  const included = include?.flatMap(braces).map(compile);
  const excluded = (exclude ?? []).flatMap(braces).map(compile);
  const isExcluded = (path: string): boolean => excluded.some((glob) => glob.path.test(path));
  return {
    all: included === undefined && excluded.length === 0,
    wants(bytes) {
      const path = bytes.toString('latin1');
      return (included === undefined || included.some((glob) => glob.path.test(path))) && !isExcluded(path);
    },
    mayContain(bytes) {
      const path = bytes.toString('latin1');
      if (isExcluded(path)) return false;
      return path === '' || included === undefined || included.some((glob) => glob.path.test(path) || glob.above.test(path));
    },
  };
}
