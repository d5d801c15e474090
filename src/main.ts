/**
 * The entry: which command. The processes that live as long as a mount are told apart before anything else is loaded, because
 * they must stay small.
 */
const [, , command = '', ...rest] = process.argv;

async function start(): Promise<void> {
  if (command === 'hold') {
    const { holdCommand } = await import('./cli/mount/hold.ts');
    await holdCommand(rest);
  } else if (command === 'supervise') {
    const { superviseCommand } = await import('./cli/mount/supervise.ts');
    await superviseCommand(rest);
  } else if (command === 'serve' || (command === 'mount' && rest.includes('--plan'))) {
    const { serveCommand } = await import('./cli/mount/serve.ts');
    await serveCommand(rest);
  } else if (command === 'mount') {
    const { startMount } = await import('./cli/mount/start.ts');
    await startMount(process.argv);
  } else if (command === 'sync-sidecar') {
    const { syncSidecarCommand } = await import('./cli/sync-sidecar.ts');
    await syncSidecarCommand(rest);
  } else {
    const { main } = await import('./cli/program.ts');
    await main(process.argv);
  }
}

void start();
