/**
 * Which objects are to be copied: patterns as JuiceFS's `sync` has them, which are rsync's but for that a pattern without a leading `/`
 * ends anywhere. The first rule that matches decides; what none matches is included.
 *
 * In the ordinary way each level of a path is decided about, from the top: what lies in an excluded directory is excluded. With
 * `fullPath` only the whole path is. Patterns: `*` and `?` within a name, `[a-z]`, `**` over several names, a last `***` for a directory
 * with all that is in it, a `/` at the end for directories alone, a `/` at the beginning for the top.
 *
 * Source: JuiceFS pkg/sync/sync.go (matchLeveledPath, matchFullPath), Go's path.Match.
 */
import { UserError } from '../lib/errors.ts';
import { bytesOf } from './side.ts';

export interface Rule {
  readonly include: boolean;
  readonly pattern: string;
}

export interface Rules {
  /** True where an object of this key is to be copied. */
  readonly includes: (key: string) => boolean;
}

interface Parsed {
  readonly include: boolean;
  readonly parts: readonly string[];
}

const BAD = Symbol('bad pattern');
const compiled = new Map<string, RegExp>();

/** Go's path.Match as an expression over one text; bounded by the number of rules. */
function expressionOf(pattern: string): RegExp | typeof BAD {
  let source = '';
  const chars = Array.from(pattern);
  for (let at = 0; at < chars.length; at++) {
    const char = chars[at]!;
    if (char === '*') source += '[^/]*';
    else if (char === '?') source += '[^/]';
    else if (char === '\\') {
      const next = chars[++at];
      if (next === undefined) return BAD;
      source += escape(next);
    } else if (char === '[') {
      let set = '';
      at++;
      const negated = chars[at] === '^';
      if (negated) at++;
      for (let first = true; first || chars[at] !== ']'; first = false) {
        const low = member();
        if (low === undefined) return BAD;
        let high: string | undefined = low;
        if (chars[at] === '-') {
          at++;
          high = member();
        }
        if (high === undefined) return BAD;
        if (low <= high) set += `${escape(low)}-${escape(high)}`;
      }
      source += set === '' ? (negated ? '[\\s\\S]' : '(?!)') : `[${negated ? '^' : ''}${set}]`;
    } else source += escape(char);

    /** One character of a set; undefined where there is none. */
    function member(): string | undefined {
      let found = chars[at];
      if (found === undefined || found === '-' || found === ']') return undefined;
      if (found === '\\') {
        at++;
        found = chars[at];
      }
      at++;
      return at < chars.length ? found : undefined;
    }
  }
  return new RegExp(`^${source}$`, 'su');
}

const escape = (char: string): string => (/[\^$\\.*+?()[\]{}|/-]/.test(char) ? `\\${char}` : char);

function isMatch(pattern: string, text: string): boolean {
  let expression = compiled.get(pattern);
  if (!expression) {
    const made = expressionOf(pattern);
    // Part of a pattern that was taken apart at `**`: such a part matches nothing.
    expression = made === BAD ? /(?!)/ : made;
    if (compiled.size > 10_000) compiled.clear();
    compiled.set(pattern, expression);
  }
  return expression.test(text);
}

function matchTwoStar(pattern: string, names: readonly string[]): boolean {
  if (names.length === 0) return pattern === '*';
  const at = pattern.indexOf('**');
  if (at < 0) return isMatch(pattern, names.join('/'));
  if (!isMatch(pattern.slice(0, at + 1), names[0]!)) return false;
  for (let count = 0; count <= names.length; count++) {
    const rest = count === 0 ? pattern.slice(0, at) + pattern.slice(at + 1) : pattern.slice(at + 1);
    if (matchTwoStar(rest, names.slice(count))) return true;
  }
  return false;
}

function matchPrefix(pattern: readonly string[], names: readonly string[]): boolean {
  const [first, ...rest] = pattern;
  if (first === undefined || names.length === 0) return pattern.length === names.length;
  if (first === '***') return true;
  if (first.includes('**')) {
    for (let count = 1; count <= names.length; count++)
      if (matchTwoStar(first, names.slice(0, count)) && matchPrefix(rest, names.slice(count))) return true;
    return false;
  }
  return isMatch(first, names[0]!) && matchPrefix(rest, names.slice(1));
}

function matchSuffix(pattern: readonly string[], names: readonly string[]): boolean {
  const last = pattern.at(-1);
  if (last === undefined) return true;
  if (names.length === 0) return pattern.length === 1 && (last === '***' || last === '**');
  const rest = pattern.slice(0, -1);
  if (last === '***' || last.includes('**')) {
    for (let count = 0; count < names.length; count++)
      if ((last === '***' || matchTwoStar(last, names.slice(count))) && matchSuffix(rest, names.slice(0, count))) return true;
    return false;
  }
  return isMatch(last, names.at(-1)!) && matchSuffix(rest, names.slice(0, -1));
}

function matches({ parts }: Parsed, names: readonly string[]): boolean {
  if (parts[0] !== '') return matchSuffix(parts, names);
  return matchPrefix(names[0] === '' ? parts : parts.slice(1), names);
}

/** Reads rules, in the order in which they count. Throws UserError `InvalidPattern`. */
export function rulesOf(rules: readonly Rule[], fullPath = false): Rules {
  for (const { pattern, include } of rules)
    if (pattern === '' || expressionOf(pattern) === BAD)
      throw new UserError(
        'InvalidPattern',
        `--${include ? 'include' : 'exclude'}: ${JSON.stringify(pattern)} is no pattern: a "[" needs its "]", a "\\" something behind it`,
      );
  // Rules that include change nothing where none excludes.
  const parsed = rules.some(({ include }) => !include)
    ? rules.map(({ include, pattern }) => ({ include, parts: pattern.split('/') }))
    : [];
  const decide = (names: readonly string[], deeper: boolean): boolean => {
    for (const rule of parsed) {
      const last = rule.parts.at(-1);
      const looked = deeper && (last === '' || last === '***') ? [...names, ''] : names;
      if (matches(rule, looked)) return rule.include;
    }
    return true;
  };
  return {
    includes(key) {
      if (parsed.length === 0) return true;
      const names = bytesOf(key).toString('utf8').split('/');
      if (fullPath) return decide(names, false);
      for (const [index, name] of names.entries())
        if (name !== '' && !decide(names.slice(0, index + 1), index < names.length - 1)) return false;
      return true;
    },
  };
}
