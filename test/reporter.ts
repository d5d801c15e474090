/** A reporter of node:test that writes one JSON line per finished test: what test/run.ts adds up. */
interface TestEvent {
  readonly type: string;
  readonly data: {
    readonly name?: string;
    readonly skip?: string | boolean;
    readonly todo?: unknown;
    readonly details?: { readonly type?: string };
  };
}

export default async function* reporter(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const { type, data } of source) {
    if ((type !== 'test:pass' && type !== 'test:fail') || data.details?.type === 'suite') continue;
    yield `${JSON.stringify({ name: data.name, ok: type === 'test:pass', skip: data.skip })}\n`;
  }
}
