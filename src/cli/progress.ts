/** How far a long command is: one line on a terminal, written over and over; nothing where nobody watches. */

const PAUSE_MS = 200;
const CLEAR = '\r\u001b[K';

export interface ProgressLine {
  /** Takes the line away; what is printed afterwards stands in its place. */
  end(): void;
}

/** Shows what `text` answers, several times a second. */
export function showProgress(text: () => string, stream: NodeJS.WriteStream = process.stderr): ProgressLine {
  if (!stream.isTTY) return { end() {} };
  const width = (): number => Math.max(20, (stream.columns ?? 80) - 1);
  const timer = setInterval(() => stream.write(CLEAR + text().slice(0, width())), PAUSE_MS);
  timer.unref();
  return {
    end() {
      clearInterval(timer);
      stream.write(CLEAR);
    },
  };
}
