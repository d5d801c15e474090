/** A loopback proxy between a client and its server, for outages. */
import { connect, createServer, type Socket } from 'node:net';

/** A way to the server that can be closed, and that can lose answers. */
export class Proxy {
  readonly port: number;
  readonly #target: number;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  readonly #server = createServer((client) => this.#join(client));
  /** Called with what a client sends; true loses the answer and the connection. */
  loses: (data: Buffer) => boolean = () => false;
  /** Called with what a client sends; from the first true on, its connection is there and silent. */
  silences: (data: Buffer) => boolean = () => false;
  /** Called with what a client sends; a text is answered to it, and the server hears nothing. */
  answers: (data: Buffer) => string | undefined = () => undefined;

  constructor(port: number, target: number) {
    this.port = port;
    this.#target = target;
  }

  #join(client: Socket): void {
    const upstream = connect(this.#target, '127.0.0.1');
    const pair = [client, upstream] as const;
    this.#pairs.add(pair);
    let losing = false;
    let silent = false;
    const end = (): void => {
      client.destroy();
      upstream.destroy();
      this.#pairs.delete(pair);
    };
    client.on('data', (data: Buffer) => {
      losing ||= this.loses(data);
      silent ||= this.silences(data);
      const answer = this.answers(data);
      if (answer !== undefined) return client.write(answer);
      return upstream.write(data);
    });
    upstream.on('data', (data: Buffer) => (losing ? end() : silent || client.write(data)));
    for (const socket of pair) socket.on('close', end).on('error', end);
  }

  open(): Promise<void> {
    return new Promise((resolve) => this.#server.listen(this.port, '127.0.0.1', resolve));
  }

  close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const [client, upstream] of this.#pairs) {
      client.destroy();
      upstream.destroy();
    }
    return closed;
  }
}
