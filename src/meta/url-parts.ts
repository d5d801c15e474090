/** What the readers of metadata URLs share: credentials, query members, and errors that carry no password. */
import { readFileSync } from 'node:fs';
import { messageOf, UserError } from '../lib/errors.ts';

/** What passwords are taken from beside the URL. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** How a metadata URL looks, for people. */
export const HINT =
  'Give it as redis://host:6379/1, rediss://…, postgres://user@host/database, mysql://user@(host:3306)/database, or sqlite3:///path/of/file.db.';

/** A URL that cannot be used; what is shown of it holds no password. */
export function invalid(url: string, why: string): UserError {
  return new UserError('InvalidMetaUrl', `The metadata URL ${JSON.stringify(redactUrl(url))} cannot be used: ${why}`, {
    hint: HINT,
  });
}

/**
 * The URL without its password, and without query members that may be one. Any text may be given; a text that is no URL
 * loses whatever stands between its first colon and its last `@`.
 */
export function redactUrl(url: string): string {
  const query = /([?&][^=&]*(?:pass|secret|token)[^=&]*=)[^&]*/gi;
  const at = url.lastIndexOf('@');
  const schemeEnd = url.indexOf('://');
  const start = schemeEnd < 0 ? 0 : schemeEnd + 3;
  const colon = url.indexOf(':', start);
  const open = at < 0 || colon < 0 || colon > at ? url : `${url.slice(0, colon)}:****${url.slice(at)}`;
  return open.replace(query, '$1****');
}

/** Percent-decoded. */
export function decode(text: string, url: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid(url, 'it holds a percent sign that is not followed by two hexadecimal digits (write %25).');
  }
}

const units: Readonly<Record<string, number>> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds of a Go duration ("1m30s", "20ms"), or of a number of seconds. Undefined where it is neither. */
function parseDuration(text: string): number | undefined {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  if (!/^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(text)) return undefined;
  return [...text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)].reduce(
    (sum, [, number, unit]) => sum + Number(number) * (units[unit ?? ''] ?? 0),
    0,
  );
}

/** The password that the environment holds under one of these names, or in the file that META_PASSWORD_FILE names. */
export function passwordOf(environment: Environment, url: string, names: readonly string[]): string | undefined {
  const direct = names.map((name) => environment[name]).find((value) => value);
  if (direct) return direct;
  const file = environment['META_PASSWORD_FILE'];
  if (!file) return undefined;
  try {
    return readFileSync(file, 'utf8').trim() || undefined;
  } catch (cause) {
    throw new UserError(
      'PasswordFile',
      `The file that META_PASSWORD_FILE names cannot be read for ${redactUrl(url)}: ${messageOf(cause)}`,
      { cause, hint: 'Correct META_PASSWORD_FILE, or unset it where the database needs no password.' },
    );
  }
}

export interface UrlParts {
  readonly query: Query;
  /** As it stands there, encoded; empty where there is none. */
  readonly user: string;
  /** Likewise; undefined where no colon is behind the user. */
  readonly password: string | undefined;
  /** Host, port and path. */
  readonly target: string;
}

/**
 * Takes a URL without its scheme apart. The last @ ends the credentials, so that a password with an @, a slash or a question mark in
 * it is taken as it is meant.
 */
export function splitUrl(rest: string, url: string): UrlParts {
  const question = rest.indexOf('?', rest.lastIndexOf('@') + 1);
  const address = question < 0 ? rest : rest.slice(0, question);
  const at = address.lastIndexOf('@');
  const credentials = at < 0 ? '' : address.slice(0, at);
  const colon = credentials.indexOf(':');
  return {
    query: openQuery(question < 0 ? '' : rest.slice(question + 1), url),
    user: colon < 0 ? credentials : credentials.slice(0, colon),
    password: colon < 0 ? undefined : credentials.slice(colon + 1),
    target: address.slice(at + 1),
  };
}

/** The members of the query, `_` and `-` alike. */
export interface Query {
  take(name: string): string | undefined;
  duration(name: string, otherwise: number): number;
  /** Throws where a member is left that nobody took. */
  end(known: string): void;
}

/** Opens the part behind the question mark. */
export function openQuery(text: string, url: string): Query {
  const members = new Map([...new URLSearchParams(text)].map(([name, value]) => [name.replaceAll('_', '-'), value]));
  const take = (name: string): string | undefined => {
    const value = members.get(name);
    members.delete(name);
    return value || undefined;
  };
  return {
    take,
    duration(name, otherwise) {
      const value = take(name);
      if (value === undefined) return otherwise;
      const ms = parseDuration(value);
      if (ms === undefined) throw invalid(url, `${name} should be a duration like 20ms or 30s, it is ${JSON.stringify(value)}.`);
      return ms;
    },
    end(known) {
      const left = [...members.keys()];
      if (left.length > 0) throw invalid(url, `it has an unknown option "${left[0]}"; known are ${known}.`);
    },
  };
}
