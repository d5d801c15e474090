/** A reporter of node:test that writes one JSON line per finished test, and one per file with its time: what test/run.ts adds up. */
interface TestEvent {
  readonly type: string;
  readonly data: {
    readonly name?: string;
    readonly skip?: string | boolean;
    readonly todo?: unknown;
    readonly details?: { readonly type?: string };
    readonly file?: string;
    readonly duration_ms?: number;
  };
}

export default async function* reporter(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const { type, data } of source) {
    if (type === 'test:summary' && data.file !== undefined)
      yield `${JSON.stringify({ file: data.file, seconds: Math.round((data.duration_ms ?? 0) / 1000) })}\n`;
    if ((type !== 'test:pass' && type !== 'test:fail') || data.details?.type === 'suite') continue;
    yield `${JSON.stringify({ name: data.name, ok: type === 'test:pass', skip: data.skip })}\n`;
  }
}
