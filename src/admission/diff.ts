/** A unified diff of two texts by lines, for people to read. Longest common subsequence, on what differs in the middle only. */

const CONTEXT = 3;
/** Beyond so many pairs of lines the middle is shown as removed and added whole, instead of taking long. */
const MAX_CELLS = 16_000_000;

interface Line {
  readonly sign: ' ' | '-' | '+';
  readonly text: string;
}

function middle(before: readonly string[], after: readonly string[]): Line[] {
  const [rows, columns] = [before.length, after.length];
  if ((rows + 1) * (columns + 1) > MAX_CELLS)
    return [...before.map((text) => ({ sign: '-' as const, text })), ...after.map((text) => ({ sign: '+' as const, text }))];
  // common[i][j]: length of the longest common subsequence of before[i..] and after[j..].
  const width = columns + 1;
  const common = new Uint32Array((rows + 1) * width);
  const at = (row: number, column: number): number => common[row * width + column] ?? 0;
  for (let row = rows - 1; row >= 0; row--)
    for (let column = columns - 1; column >= 0; column--)
      common[row * width + column] =
        before[row] === after[column] ? at(row + 1, column + 1) + 1 : Math.max(at(row + 1, column), at(row, column + 1));
  const lines: Line[] = [];
  let [row, column] = [0, 0];
  while (row < rows || column < columns) {
    if (row < rows && column < columns && before[row] === after[column]) {
      lines.push({ sign: ' ', text: before[row] ?? '' });
      row++;
      column++;
    } else if (row < rows && (column === columns || at(row + 1, column) >= at(row, column + 1)))
      lines.push({ sign: '-', text: before[row++] ?? '' });
    else lines.push({ sign: '+', text: after[column++] ?? '' });
  }
  return lines;
}

function linesOf(before: readonly string[], after: readonly string[]): readonly Line[] {
  let head = 0;
  while (head < before.length && head < after.length && before[head] === after[head]) head++;
  let tail = 0;
  const limit = Math.min(before.length, after.length) - head;
  while (tail < limit && before.at(-1 - tail) === after.at(-1 - tail)) tail++;
  const same = (texts: readonly string[]): Line[] => texts.map((text) => ({ sign: ' ', text }));
  return [
    ...same(before.slice(0, head)),
    ...middle(before.slice(head, before.length - tail), after.slice(head, after.length - tail)),
    ...same(before.slice(before.length - tail)),
  ];
}

/** The hunks of `diff -u`; empty where the texts are equal. */
export function unifiedDiff(before: string, after: string, names: readonly [string, string]): string {
  if (before === after) return '';
  const split = (text: string): string[] => text.replace(/\n$/, '').split('\n');
  const lines = linesOf(split(before), split(after));
  const isShown = new Uint8Array(lines.length);
  for (const [index, { sign }] of lines.entries())
    if (sign !== ' ') isShown.fill(1, Math.max(0, index - CONTEXT), index + CONTEXT + 1);
  const output = [`--- ${names[0]}`, `+++ ${names[1]}`];
  let [old, fresh] = [1, 1];
  for (let index = 0; index < lines.length;) {
    if (isShown[index] === 0) {
      index++;
      old++;
      fresh++;
      continue;
    }
    const end = isShown.indexOf(0, index) < 0 ? lines.length : isShown.indexOf(0, index);
    const hunk = lines.slice(index, end);
    const olds = hunk.filter(({ sign }) => sign !== '+').length;
    const news = hunk.filter(({ sign }) => sign !== '-').length;
    output.push(`@@ -${old},${olds} +${fresh},${news} @@`, ...hunk.map(({ sign, text }) => sign + text));
    old += olds;
    fresh += news;
    index = end;
  }
  return `${output.join('\n')}\n`;
}
