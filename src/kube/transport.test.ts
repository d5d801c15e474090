// oxlint-disable-next-line import/no-unassigned-import -- the certificate library works only after it
import 'reflect-metadata';
import * as x509 from '@peculiar/x509';
import assert from 'node:assert/strict';
import { webcrypto } from 'node:crypto';
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect as connectTcp } from 'node:net';
import { test } from 'node:test';
import { Registry } from 'prom-client';
import { systemClock } from '../lib/clock.ts';
import { ApiError } from './errors.ts';
import type { ClusterAccess, TlsMaterial } from './kubeconfig.ts';
import { HttpTransport, retryAfterMs } from './transport.ts';

type Handler = (request: IncomingMessage, response: ServerResponse, count: number) => void;

/** A server whose requests one function answers; counts connections. */
async function serve(handle: Handler, server: Server = createServer()) {
  let requests = 0;
  let connections = 0;
  let open = 0;
  server.on('request', (request: IncomingMessage, response: ServerResponse) => handle(request, response, ++requests));
  server.on('connection', (socket) => {
    connections++;
    open++;
    socket.once('close', () => open--);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    counts: () => ({ requests, connections, open }),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function access(server: string, more: Partial<ClusterAccess> & { readonly token?: () => string } = {}): ClusterAccess {
  const tls: TlsMaterial = {};
  return {
    server,
    namespace: 'default',
    credentials: () => Promise.resolve({ tls, headers: { authorization: `Bearer ${more.token?.() ?? 'hidden'}` } }),
    invalidate: () => {},
    ...more,
  };
}

const json = (response: ServerResponse, body: unknown, code = 200, headers: Readonly<Record<string, string>> = {}): void => {
  response.writeHead(code, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
};

const quick = { requestsPerSecond: 1e6, burst: 1e6 } as const;

test('many calls share a connection or two', async () => {
  await using server = await serve((_request, response) => json(response, { fine: true }));
  const transport = new HttpTransport(access(server.url), quick);
  for (let index = 0; index < 50; index++)
    assert.deepEqual(await transport.request({ method: 'GET', path: '/version' }), { fine: true });
  // A second one is opened where a call follows before the first has come to rest.
  assert.ok(server.counts().connections <= 2, `${server.counts().connections} connections`);
  await transport.close();
});

test('a request names its agent and carries its credentials; an error carries no secret', async () => {
  const seen: (string | undefined)[] = [];
  await using server = await serve((request, response) => {
    seen.push(request.headers['user-agent'], request.headers.authorization);
    json(response, { kind: 'Status', code: 403, reason: 'Forbidden', message: 'not for you' }, 403);
  });
  const transport = new HttpTransport(access(server.url), { ...quick, userAgent: 'juicepod-operator' });
  await assert.rejects(
    transport.request({ method: 'GET', path: '/api/v1/secrets?labelSelector=x' }),
    (error) =>
      error instanceof ApiError &&
      error.code === 403 &&
      error.message === `GET ${server.url}/api/v1/secrets answered 403 Forbidden: not for you` &&
      !JSON.stringify(error).includes('hidden'),
  );
  assert.match(seen[0] ?? '', /^juicepod-operator /);
  assert.equal(seen[1], 'Bearer hidden');
  await transport.close();
});

test('a read is tried again after 503 and broken connections, a write only where the server has not begun', async () => {
  const trouble: Handler = (request, response, count) => {
    if (count === 1) json(response, {}, 503, { 'retry-after': '0' });
    else if (count === 2) request.socket.destroy();
    else json(response, { count });
  };
  {
    await using server = await serve(trouble);
    const transport = new HttpTransport(access(server.url), quick);
    assert.deepEqual(await transport.request({ method: 'GET', path: '/a' }), { count: 3 });
    await transport.close();
  }
  {
    await using server = await serve(trouble);
    const transport = new HttpTransport(access(server.url), quick);
    await assert.rejects(
      transport.request({ method: 'POST', path: '/a', body: {} }),
      (error) => (error as ApiError).code === 503,
    );
    await assert.rejects(
      transport.request({ method: 'POST', path: '/a', body: {} }),
      (error) => (error as ApiError).code === 0 && (error as ApiError).reason === 'Unreachable' && (error as ApiError).retryable,
    );
    await transport.close();
    assert.equal(server.counts().requests, 2);
  }
  await using server = await serve((_request, response, count) =>
    count < 3 ? json(response, {}, 429, { 'retry-after': '0' }) : json(response, { count }),
  );
  const transport = new HttpTransport(access(server.url), quick);
  assert.deepEqual(await transport.request({ method: 'POST', path: '/a', body: {} }), { count: 3 });
  await transport.close();
});

test('a server that goes on refusing is given up after five attempts', async () => {
  await using server = await serve((_request, response) => json(response, {}, 429, { 'retry-after': '0' }));
  const transport = new HttpTransport(access(server.url), quick);
  await assert.rejects(transport.request({ method: 'GET', path: '/a' }), (error) => (error as ApiError).code === 429);
  assert.equal(server.counts().requests, 5);
  await transport.close();
});

test('after a 401 the credentials are read anew, once', async () => {
  await using server = await serve((request, response) =>
    request.headers.authorization === 'Bearer new' ? json(response, { fine: true }) : json(response, {}, 401),
  );
  let token = 'old';
  const renewing = new HttpTransport(access(server.url, { token: () => token, invalidate: () => void (token = 'new') }), quick);
  assert.deepEqual(await renewing.request({ method: 'POST', path: '/a', body: {} }), { fine: true });
  await renewing.close();
  const stuck = new HttpTransport(access(server.url), quick);
  await assert.rejects(stuck.request({ method: 'GET', path: '/a' }), (error) => (error as ApiError).code === 401);
  assert.equal(server.counts().requests, 4);
  await stuck.close();
});

test('an answer that does not come is a Timeout, an abort is its reason, and the connection is given up', async () => {
  await using server = await serve(() => {});
  const transport = new HttpTransport(access(server.url), quick);
  await assert.rejects(
    transport.request({ method: 'GET', path: '/a', timeoutMs: 30 }),
    (error) => (error as ApiError).reason === 'Timeout' && (error as Error).message.includes('within 30 ms'),
  );
  const controller = new AbortController();
  const waiting = transport.request({ method: 'GET', path: '/a', signal: controller.signal });
  setTimeout(() => controller.abort(new Error('no more')), 30);
  await assert.rejects(waiting, /no more/);
  for (let wait = 0; wait < 100 && server.counts().open > 0; wait++) await systemClock.sleep(10);
  assert.equal(server.counts().open, 0);
  await transport.close();
});

test('an answer that is no JSON names what was asked', async () => {
  await using server = await serve((_request, response) => response.end('<html>a login page</html>'));
  const transport = new HttpTransport(access(server.url), quick);
  await assert.rejects(
    transport.request({ method: 'GET', path: '/version' }),
    /GET http.*\/version answered no JSON .* Kubernetes API server\?/,
  );
  await transport.close();
});

test('a stream that breaks is Unreachable; one that is left gives its connection up', async () => {
  await using server = await serve((_request, response, count) => {
    response.write('one\n');
    if (count === 1) setTimeout(() => response.destroy(), 20);
  });
  const transport = new HttpTransport(access(server.url), quick);
  const broken = await transport.stream({ method: 'GET', path: '/watch' });
  const seen: string[] = [];
  await assert.rejects(
    async () => {
      for await (const chunk of broken) seen.push(Buffer.from(chunk).toString());
    },
    (error) => (error as ApiError).reason === 'Unreachable',
  );
  assert.deepEqual(seen, ['one\n']);
  for await (const chunk of await transport.stream({ method: 'GET', path: '/watch' })) {
    assert.equal(Buffer.from(chunk).toString(), 'one\n');
    break;
  }
  for (let wait = 0; wait < 100 && server.counts().open > 0; wait++) await systemClock.sleep(10);
  assert.equal(server.counts().open, 0);
  await transport.close();
});

test('requests wait for the rate limit, and that is measured', async () => {
  await using server = await serve((_request, response) => json(response, {}));
  const metrics = new Registry();
  const transport = new HttpTransport(access(server.url), { requestsPerSecond: 50, burst: 1, metrics });
  for (let index = 0; index < 4; index++) await transport.request({ method: 'GET', path: '/a' });
  const text = await metrics.metrics();
  const waited = Number(/rest_client_rate_limiter_duration_seconds_sum\{[^}]*\} ([\d.e-]+)/.exec(text)?.[1]);
  assert.ok(waited > 0.01, `${waited} s`);
  assert.match(text, /rest_client_requests_total\{code="200",method="GET",host="127.0.0.1:\d+"\} 4/);
  await transport.close();
});

async function authority(): Promise<{ readonly ca: Buffer; readonly cert: string; readonly key: string }> {
  x509.cryptoProvider.set(webcrypto as never);
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=test',
    keys: keys as never,
    signingAlgorithm: algorithm,
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 3_600_000),
    extensions: [
      new x509.BasicConstraintsExtension(true, 1, true),
      new x509.SubjectAlternativeNameExtension([{ type: 'ip', value: '127.0.0.1' }]),
    ],
  });
  const pem = certificate.toString('pem');
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  return { ca: Buffer.from(pem), cert: pem, key: `-----BEGIN PRIVATE KEY-----\n${pkcs8}\n-----END PRIVATE KEY-----\n` };
}

test('a server of another authority is refused, and a new authority in force without a restart', async () => {
  const [old, next] = [await authority(), await authority()];
  const tlsServer = createTlsServer({ cert: old.cert, key: old.key });
  await using server = await serve((_request, response) => json(response, { fine: true }), tlsServer);
  let tls: TlsMaterial = { ca: old.ca };
  const transport = new HttpTransport(
    access(`https://127.0.0.1:${server.port}`, { credentials: () => Promise.resolve({ tls, headers: {} }) }),
    quick,
  );
  const call = () => transport.request({ method: 'POST', path: '/a', body: {} });
  assert.deepEqual(await call(), { fine: true });
  tlsServer.setSecureContext({ cert: next.cert, key: next.key });
  tlsServer.closeAllConnections();
  await systemClock.sleep(20);
  await assert.rejects(call(), (error) => (error as ApiError).reason === 'Unreachable');
  tls = { ca: next.ca };
  assert.deepEqual(await call(), { fine: true });
  await transport.close();
});

test('a cluster behind a proxy is reached through it', async () => {
  const { ca, cert, key } = await authority();
  await using server = await serve((_request, response) => json(response, { fine: true }), createTlsServer({ cert, key }));
  const targets: (string | undefined)[] = [];
  const proxyServer = createServer();
  proxyServer.on('connect', (request, socket) => {
    targets.push(request.url);
    const upstream = connectTcp(server.port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      upstream.pipe(socket).pipe(upstream);
    });
    upstream.on('error', () => socket.destroy());
    socket.on('error', () => upstream.destroy());
  });
  await using proxy = await serve(() => {}, proxyServer);
  const transport = new HttpTransport(
    access(`https://127.0.0.1:${server.port}`, {
      proxyUrl: proxy.url,
      credentials: () => Promise.resolve({ tls: { ca }, headers: {} }),
    }),
    quick,
  );
  assert.deepEqual(await transport.request({ method: 'GET', path: '/a' }), { fine: true });
  assert.deepEqual(targets, [`127.0.0.1:${server.port}`]);
  await transport.close();
});

test('Retry-After is read as seconds or as a date, and never waits longer than 30 s', () => {
  assert.equal(retryAfterMs(undefined, 0), undefined);
  assert.equal(retryAfterMs('2', 0), 2000);
  assert.equal(retryAfterMs('Thu, 01 Jan 1970 00:00:05 GMT', 0), 5000);
  assert.equal(retryAfterMs('Thu, 01 Jan 1970 00:00:05 GMT', 9000), 0);
  assert.equal(retryAfterMs('86400', 0), 30_000);
  assert.equal(retryAfterMs('soon', 0), undefined);
});
