/** What an access log tells, summed up by operation. Source of the lines: JuiceFS, access log. */

/** One operation of the log. */
export interface LogEntry {
  /** Unix milliseconds, of a clock at UTC: only differences mean anything. */
  readonly time: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  readonly operation: string;
  /** Microseconds. */
  readonly latency: number;
}

const LINE =
  /^(\d{4})\.(\d\d)\.(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{3})\d* \[uid:(\d+),gid:(\d+),pid:(\d+)\] (\w+)\b.*<(\d+(?:\.\d+)?)>\s*$/;

/** One line of the log; undefined where it is none, as the `#` of an idle mount. */
export function parseLine(text: string): LogEntry | undefined {
  const match = LINE.exec(text);
  if (!match) return undefined;
  const [year = 0, month = 0, day = 0, hours = 0, minutes = 0, seconds = 0, ms = 0] = match.slice(1, 8).map(Number);
  return {
    time: Date.UTC(year, month - 1, day, hours, minutes, seconds, ms),
    uid: Number(match[8]),
    gid: Number(match[9]),
    pid: Number(match[10]),
    operation: match[11] ?? '',
    latency: Math.round(Number(match[12]) * 1e6),
  };
}

/** Who is looked at; an empty list is everybody. */
export interface Filter {
  readonly uid: readonly number[];
  readonly gid: readonly number[];
  readonly pid: readonly number[];
}

export function passes(entry: LogEntry, filter: Filter): boolean {
  const among = (list: readonly number[], value: number): boolean => list.length === 0 || list.includes(value);
  return among(filter.uid, entry.uid) && among(filter.gid, entry.gid) && among(filter.pid, entry.pid);
}

/** What was done of one operation. */
export interface Share {
  readonly operation: string;
  readonly count: number;
  /** Microseconds. */
  readonly total: number;
}

/** Sums up; as many records as there are operations. */
export class Profile {
  #shares = new Map<string, { count: number; total: number }>();

  add({ operation, latency }: LogEntry): void {
    const share = this.#shares.get(operation);
    if (!share) this.#shares.set(operation, { count: 1, total: latency });
    else {
      share.count++;
      share.total += latency;
    }
  }

  /** What came together, the costliest first; begins anew. */
  take(): readonly Share[] {
    const shares = Array.from(this.#shares, ([operation, share]) => ({ operation, ...share }));
    this.#shares = new Map();
    return shares.toSorted((a, b) => b.total - a.total || (a.operation < b.operation ? -1 : 1));
  }
}

/** Cuts bytes into lines; one that is longer than any of a log is dropped. */
export class Lines {
  static readonly LONGEST = 65_536;
  #rest = '';

  push(text: string): readonly string[] {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    if (this.#rest.length > Lines.LONGEST) this.#rest = '';
    return lines;
  }

  /** What stands behind the last newline. */
  end(): readonly string[] {
    return this.#rest === '' ? [] : [this.#rest];
  }
}
