/** Waiting in tests: for what shall come to pass, not for a time. The bound is there for what never does, so it is a long one. */
const MOST_MS = 90_000;

/** Looks again and again until the answer is true (or something), and answers it; throws after a minute and a half, naming what was waited for. */
export async function until<T>(
  what: string,
  look: () => T | Promise<T>,
  pauseMs = 20,
): Promise<Exclude<T, false | null | undefined>> {
  for (const end = performance.now() + MOST_MS; ;) {
    const found = await look();
    if (found) return found as Exclude<T, false | null | undefined>;
    if (performance.now() > end) throw new Error(`waited in vain until ${what}`);
    await new Promise((done) => setTimeout(done, pauseMs));
  }
}
