/**
 * Commands that are sent in one turn of the event loop go to the server together: the first one at once, so that it is not held
 * up and the server has something to do, what follows it in one write at the turn's end. Many programs' requests are read from the
 * kernel in one turn; each with a write of its own cost more in system calls, here and in the server, than all the rest.
 */

/** What of a stream is needed here. */
interface Corkable {
  cork(): void;
  uncork(): void;
}

export class Turn {
  #begun = false;
  #corked: Corkable | undefined;

  /** Before each command that is sent over the stream; without a connection there is none. */
  sending(stream: Corkable | undefined): void {
    if (!stream) return;
    if (!this.#begun) {
      this.#begun = true;
      process.nextTick(this.#end);
    } else if (!this.#corked) {
      this.#corked = stream;
      stream.cork();
    }
  }

  readonly #end = (): void => {
    this.#begun = false;
    const corked = this.#corked;
    this.#corked = undefined;
    corked?.uncork();
  };
}
