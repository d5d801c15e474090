/**
 * Takes secrets out of texts that are given away. Two nets: values that are known to be secret are taken out wherever they stand, and what
 * looks like one is taken out though nobody knows it.
 */

const HIDDEN = '***';
/** Shorter values stand in too many places by chance. */
const SHORTEST = 4;
/** Words that no secret is, and that stand everywhere. */
const ORDINARY = /^(true|false|none|null|auto|removed)$/i;
const SECRET_NAME = /pass|secret|token|credential|private|(access|encrypt)[_-]?key/i;

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Passwords in the URLs of a text, as they stand there and as they are meant. */
function passwordsIn(text: string): readonly string[] {
  return Array.from(text.matchAll(/:\/\/[^\s/@"']*?:([^\s/"']+)@/g), ([, password = '']) => password).flatMap((password) => [
    password,
    decoded(password),
  ]);
}

/** Every string in a value whose name says that it is secret, and every password in a URL. */
function secretsIn(value: unknown, name: string, found: Set<string>): void {
  if (typeof value === 'string') {
    for (const password of passwordsIn(value)) found.add(password);
    if (SECRET_NAME.test(name)) found.add(value);
    return;
  }
  if (typeof value !== 'object' || value === null) return;
  for (const [key, each] of Object.entries(value)) secretsIn(each, Array.isArray(value) ? name : key, found);
}

/** What is secret in an environment and in documents of JSON; what is no JSON is left out. */
export function knownSecrets(environment: Readonly<Record<string, string>>, documents: readonly string[]): readonly string[] {
  const found = new Set<string>();
  for (const [name, value] of Object.entries(environment)) {
    secretsIn(value, name, found);
    if (value.startsWith('{')) documents = [...documents, value];
  }
  for (const document of documents) {
    try {
      secretsIn(JSON.parse(document), '', found);
    } catch {
      continue;
    }
  }
  return [...found].filter((value) => value.length >= SHORTEST && !ORDINARY.test(value)).toSorted((a, b) => b.length - a.length);
}

/** The text without them. */
export function withoutSecrets(text: string, secrets: readonly string[]): string {
  let clean = text;
  for (const secret of secrets) {
    // In JSON and in URLs it is spelled otherwise.
    for (const spelled of new Set([secret, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret)]))
      clean = clean.replaceAll(spelled, HIDDEN);
  }
  return clean
    .replaceAll(/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)/g, HIDDEN)
    .replaceAll(/(:\/\/[^\s/@"']*?):[^\s/"']+@/g, `$1:${HIDDEN}@`)
    .replaceAll(
      /("[^"]*(?:[Pp]ass|[Ss]ecret|[Tt]oken|[Cc]redential|(?:[Aa]ccess|[Ee]ncrypt)[_-]?[Kk]ey)[^"]*"\s*:\s*)"(?:[^"\\]|\\.)+"/g,
      `$1"${HIDDEN}"`,
    )
    .replaceAll(/(\b[\w-]*(?:password|passphrase|secret|token|access[_-]?key)[\w-]*[= ])[^\s&"']+/gi, `$1${HIDDEN}`)
    .replaceAll(/\b(?:AKIA|ASIA)[A-Z0-9]{16}\b/g, HIDDEN);
}
