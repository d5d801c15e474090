/**
 * The applications of the scenarios: small programs for the Node of juicepod's own image, which every cluster under test has.
 * They are run by `node -e` with their arguments and print JSON.
 */

/** Content that no wrong order, hole or repetition of blocks leaves equal: the key stream of AES-256-CTR. */
const content = `
const { createCipheriv, createHash } = require('node:crypto');
const fs = require('node:fs');
const stream = () => createCipheriv('aes-256-ctr', Buffer.alloc(32, 'juicepod'), Buffer.alloc(16));
`;

/** PATH BYTES: writes the content, closes without a sync, and prints its sha256. BYTES is a multiple of 1 MiB. */
export const writeContent = `${content}
const [path, bytes] = process.argv.slice(1);
const cipher = stream(), digest = createHash('sha256'), zeros = Buffer.alloc(1 << 20);
const file = fs.openSync(path, 'w');
for (let at = 0; at < Number(bytes); at += zeros.length) {
  const piece = cipher.update(zeros);
  digest.update(piece);
  for (let done = 0; done < piece.length; ) done += fs.writeSync(file, piece, done);
}
fs.closeSync(file);
console.log(digest.digest('hex'));
`;

/** PATH: prints the sha256 and the size of a file that is read in pieces of 1 MiB. */
export const readContent = `${content}
const digest = createHash('sha256'), piece = Buffer.alloc(1 << 20);
const file = fs.openSync(process.argv[1], 'r');
let size = 0;
for (let count; (count = fs.readSync(file, piece, 0, piece.length, null)) > 0; size += count) digest.update(piece.subarray(0, count));
console.log(JSON.stringify({ sha256: digest.digest('hex'), size }));
`;

/**
 * FOLDER: until it is told to end by TERM, appends a numbered line to \`log\` and fsyncs it; each tenth time it also makes,
 * lists and removes a file. After each line it writes how far it is to /tmp/lines, at the end to /tmp/summary: how many lines
 * were acknowledged, the longest pause in milliseconds, and every error. It then waits to be deleted.
 */
export const appendLines = `
const fs = require('node:fs');
const folder = process.argv[1], errors = [];
const log = fs.openSync(folder + '/log', 'a');
let lines = 0, longest = 0, ending = false;
process.on('SIGTERM', () => (ending ? process.exit(0) : (ending = true)));
const step = () => {
  const began = Date.now();
  try {
    fs.writeSync(log, lines + 1 + '\\n');
    fs.fsyncSync(log);
    lines++;
    if (lines % 10 === 0) {
      const name = 'file-' + lines;
      fs.writeFileSync(folder + '/' + name, name);
      if (!fs.readdirSync(folder).includes(name)) errors.push('a new file is not listed: ' + name);
      if (fs.readFileSync(folder + '/' + name, 'utf8') !== name) errors.push('a new file has other content: ' + name);
      fs.unlinkSync(folder + '/' + name);
    }
  } catch (error) {
    errors.push('at line ' + (lines + 1) + ': ' + error.message);
    if (errors.length > 20) ending = true;
  }
  longest = Math.max(longest, Date.now() - began);
  fs.writeFileSync('/tmp/lines', String(lines));
  if (!ending) return void setTimeout(step, 5);
  fs.writeFileSync('/tmp/summary.new', JSON.stringify({ lines, longest, errors }));
  fs.renameSync('/tmp/summary.new', '/tmp/summary');
  setInterval(() => {}, 1000);
};
step();
`;

/**
 * PATH BYTES STATE: writes the content, by one descriptor that stays open. What is refused for want of room is tried again five times a
 * second. STATE is a file that says how far it is (`Filling`).
 */
export const fillUp = `${content}
const [path, bytes, state] = process.argv.slice(1);
const cipher = stream(), digest = createHash('sha256'), zeros = Buffer.alloc(1 << 18), refused = [];
const file = fs.openSync(path, 'w');
let written = 0, piece = Buffer.alloc(0);
const tell = (more = {}) => {
  fs.writeFileSync(state + '.new', JSON.stringify({ written, refused, ...more }));
  fs.renameSync(state + '.new', state);
};
const step = () => {
  try {
    for (; written < Number(bytes); ) {
      if (piece.length === 0) digest.update((piece = cipher.update(zeros)));
      const count = fs.writeSync(file, piece);
      piece = piece.subarray(count);
      written += count;
    }
    fs.fsyncSync(file);
    tell({ sha256: digest.digest('hex') });
  } catch (error) {
    if (refused.at(-1) !== -error.errno) refused.push(-error.errno);
    tell();
    setTimeout(step, 200);
  }
};
step();
setInterval(() => {}, 1000);
process.on('SIGTERM', () => process.exit(0));
`;

export interface Filling {
  /** Bytes. */
  readonly written: number;
  /** Numbers of the errors there were, one for each time that another one came. */
  readonly refused: readonly number[];
  /** Where everything is written and synced. */
  readonly sha256?: string;
}

export interface Appended {
  readonly lines: number;
  /** Milliseconds. */
  readonly longest: number;
  readonly errors: readonly string[];
}
