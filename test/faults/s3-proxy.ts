/** An S3 server behind a line that fails on demand, for mounts: refuses, stalls or is away, as long as a test wants. */
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { type S3Server, startS3 } from '../servers.ts';

export type Trouble =
  /** Every request that `only` names is answered with this status. */
  | { readonly status: number; readonly code?: string; readonly only?: string }
  /** The connection is cut. */
  | { readonly cut: true; readonly only?: string }
  /** The answer comes so many milliseconds late. */
  | { readonly lateMs: number; readonly only?: string }
  /** No answer comes at all. */
  | { readonly silent: true; readonly only?: string };

export interface FailingS3 extends AsyncDisposable {
  readonly s3: S3Server;
  readonly endpoint: string;
  /** Options of `juicepod format` for a bucket behind this line. */
  readonly format: readonly string[];
  /** What goes wrong from now on; undefined ends it. */
  trouble: Trouble | undefined;
  /** Requests that something went wrong with. */
  readonly troubled: number;
  /** Ends the trouble, and cuts what waits for an answer. */
  release(): void;
}

export async function startFailingS3(): Promise<FailingS3> {
  const s3 = await startS3();
  s3.createBucket('blocks');
  let troubled = 0;
  let trouble: Trouble | undefined;
  const forward = (incoming: IncomingMessage, body: Buffer, answer: ServerResponse): void => {
    // The Host header is signed: it goes on as it came.
    const onward = request(
      { host: '127.0.0.1', port: s3.port, method: incoming.method, path: incoming.url, headers: incoming.headers },
      (response) => {
        answer.writeHead(response.statusCode ?? 502, response.headers);
        response.pipe(answer);
      },
    );
    onward.on('error', () => answer.destroy());
    onward.end(body);
  };
  const proxy = createServer((incoming, answer) => {
    const parts: Buffer[] = [];
    incoming.on('data', (part: Buffer) => parts.push(part));
    incoming.on('end', () => {
      const body = Buffer.concat(parts);
      const now = trouble && (trouble.only === undefined || trouble.only === incoming.method) ? trouble : undefined;
      if (!now) return forward(incoming, body, answer);
      troubled++;
      if ('cut' in now) answer.destroy();
      else if ('status' in now) {
        answer.writeHead(now.status, { 'content-type': 'application/xml' });
        answer.end(`<Error><Code>${now.code ?? 'Trouble'}</Code><Message>as asked</Message></Error>`);
      } else if ('lateMs' in now) setTimeout(() => forward(incoming, body, answer), now.lateMs);
    });
    incoming.on('error', () => answer.destroy());
  });
  await new Promise<void>((done) => proxy.listen(0, '127.0.0.1', done));
  const address = proxy.address();
  if (typeof address !== 'object' || !address) throw new Error('the proxy has no port');
  const endpoint = `http://127.0.0.1:${address.port}`;
  const bucket = ['--storage', 's3', '--bucket', `${endpoint}/blocks`];
  return {
    s3,
    endpoint,
    format: [...bucket, '--access-key', s3.accessKey, '--secret-key', s3.secretKey],
    get trouble() {
      return trouble;
    },
    set trouble(next) {
      trouble = next;
    },
    get troubled() {
      return troubled;
    },
    release() {
      trouble = undefined;
      proxy.closeAllConnections();
    },
    async [Symbol.asyncDispose]() {
      proxy.closeAllConnections();
      proxy.close();
      await s3.stop();
    },
  };
}
