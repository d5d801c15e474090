/** Goes through a list ahead of who reads it, so that two lists and what is done with them go on side by side. Bound: `most` entries. */
export async function* ahead<T>(list: AsyncIterable<T>, most: number): AsyncGenerator<T> {
  const found: T[] = [];
  /** The next one to give out. */
  let at = 0;
  let wake: (() => void) | undefined;
  const state = { ended: false, stopped: false };
  let failure: { readonly error: unknown } | undefined;
  const changed = (): Promise<void> => new Promise((done) => (wake = done));
  const notify = (): void => {
    wake?.();
    wake = undefined;
  };
  // Only one of the two ever waits: the one for entries, the other for room.
  const going = (async () => {
    try {
      for await (const entry of list) {
        found.push(entry);
        notify();
        while (found.length - at >= most && !state.stopped) await changed();
        if (state.stopped) return;
      }
    } catch (error) {
      failure = { error };
    } finally {
      state.ended = true;
      notify();
    }
  })();
  try {
    for (;;) {
      while (at === found.length && !state.ended) await changed();
      if (at === found.length) break;
      const entry = found[at++]!;
      if (at >= most / 2) {
        found.splice(0, at);
        at = 0;
        notify();
      }
      yield entry;
    }
    if (failure) throw failure.error;
  } finally {
    state.stopped = true;
    notify();
    await going;
  }
}
