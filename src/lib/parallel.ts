/** Work on a stream, several at a time: what is asked for next is taken only when there is room for it. */

/**
 * Calls `work` for each item, at most `limit` at a time, and resolves when all are done. The first failure ends it: nothing
 * more is taken, what is under way is waited for, and the failure is thrown.
 */
export async function forEachParallel<T>(
  items: AsyncIterable<T> | Iterable<T>,
  limit: number,
  work: (item: T) => Promise<unknown>,
): Promise<void> {
  const running = new Set<Promise<void>>();
  let failure: { readonly error: unknown } | undefined;
  // Of whom waits for room. (Promise.race would leave a reaction with each that is under way, for each item.)
  let wake = (): void => {};
  try {
    for await (const item of items) {
      if (failure) break;
      const done: Promise<void> = Promise.resolve(work(item)).then(
        () => {
          running.delete(done);
          wake();
        },
        (error: unknown) => {
          failure ??= { error };
          running.delete(done);
          wake();
        },
      );
      running.add(done);
      if (running.size >= limit) await new Promise<void>((resolve) => (wake = resolve));
    }
  } finally {
    await Promise.all(running);
  }
  if (failure) throw failure.error;
}
