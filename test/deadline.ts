/**
 * Ends a file of tests whose process is there long after its time: a test that is given up for its time leaves open what it had, and
 * the runner would wait for that without end. Imported into each (in-order.ts) as `deadline.ts?seconds=N`.
 */
const seconds = Number(new URL(import.meta.url).searchParams.get('seconds'));

setTimeout(() => {
  console.error(
    `This file of tests was to end within ${seconds} s, and is ended. Open: ${process.getActiveResourcesInfo().join(', ')}`,
  );
  process.exit(1);
}, seconds * 1000).unref();
