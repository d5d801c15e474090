/**
 * A line between clients and a server: a TCP port of its own, through which bytes pass as they come (TLS too), until it is cut, nobody reads
 * on, or what clients send is to be lost, left without an answer, answered by somebody else, or held up. For outages as clients see them.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** Looks at what a client has sent, as it came. */
type Looks = (data: Buffer) => boolean;

export class Line implements AsyncDisposable {
  /** True: the server gets this, and its answer and the connection are lost. */
  loses: Looks = () => false;
  /** From the first true on the connection is there and silent; the server gets what is sent. */
  silences: Looks = () => false;
  /** True: the server gets this only with `deliver`; the client has lost its connection. */
  keeps: Looks = () => false;
  /** A text is answered to this, and the server hears nothing. */
  answers: (data: Buffer) => string | undefined = () => undefined;

  readonly #target: number;
  readonly #host: string;
  readonly #server = createServer((near) => this.#join(near));
  readonly #pairs = new Set<readonly [near: Socket, far: Socket]>();
  #kept: { readonly to: Socket; readonly data: Buffer }[] = [];
  #port = 0;
  #stalled = false;
  #sent = 0;

  /** A line to a port, from a free one of the same address. */
  static async start(target: number, host = '127.0.0.1'): Promise<Line> {
    const line = new Line(target, host);
    await line.mend();
    line.#port = (line.#server.address() as AddressInfo).port;
    return line;
  }

  private constructor(target: number, host: string) {
    this.#target = target;
    this.#host = host;
  }

  /** Where it listens; stays the same when it is cut and mended. */
  get port(): number {
    return this.#port;
  }

  #join(near: Socket): void {
    const far = connect(this.#target, this.#host);
    const pair = [near, far] as const;
    this.#pairs.add(pair);
    let [losing, silent, kept] = [false, false, false];
    // What comes for a side that has gone is dropped; to wait for that side would keep the end of the other from being seen.
    const pass = (from: Socket, to: Socket, data: Buffer): void => {
      if (!to.destroyed && !to.write(data)) from.pause();
    };
    near.on('data', (data: Buffer) => {
      this.#sent++;
      losing ||= this.loses(data);
      silent ||= this.silences(data);
      const answer = this.answers(data);
      if (answer !== undefined) return void near.write(answer);
      if (!this.keeps(data)) return pass(near, far, data);
      kept = true;
      this.#kept.push({ to: far, data });
      near.destroy();
    });
    far.on('data', (data: Buffer) => {
      if (losing) near.destroy();
      else if (!silent) pass(far, near, data);
    });
    near.on('drain', () => this.#stalled || far.resume());
    far.on('drain', () => near.resume());
    for (const [from, to] of [pair, [far, near]] as const) {
      from.setNoDelay(true);
      from.on('error', () => {});
      from.on('end', () => to.end());
      from.on('close', () => {
        // What is held up is to reach the server on the connection that it was sent on.
        if (from === near && kept) return;
        to.destroy();
        this.#pairs.delete(pair);
      });
    }
    if (this.#stalled) far.pause();
  }

  /** Resets all connections; new ones are refused. */
  async cut(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const [near, far] of this.#pairs) {
      near.resetAndDestroy();
      far.destroy();
    }
    await closed;
  }

  /** Lets connections be made again. */
  async mend(): Promise<void> {
    if (this.#server.listening) return;
    this.#server.listen(this.#port, this.#host);
    await once(this.#server, 'listening');
  }

  /** What the server sends is not read any more: its buffers fill. */
  stall(): void {
    this.#stalled = true;
    for (const [, far] of this.#pairs) far.pause();
  }

  /** It is read on. */
  flow(): void {
    this.#stalled = false;
    for (const [, far] of this.#pairs) far.resume();
  }

  /** Pieces that clients have sent since the last call. */
  take(): number {
    const taken = this.#sent;
    this.#sent = 0;
    return taken;
  }

  /** Sends what `keeps` held up, and waits until the server is done with it; answers how many pieces. */
  async deliver(): Promise<number> {
    const late = this.#kept;
    this.#kept = [];
    for (const { to, data } of late) {
      to.end(data);
      if (!to.closed) await once(to, 'close');
    }
    return late.length;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.cut();
  }
}
