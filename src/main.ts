/**
 * The entry: which command. The holder is told apart before anything else is loaded, because it lives as long as the pod
 * and must stay small.
 */
if (process.argv[2] === 'hold') {
  const { holdCommand } = await import('./cli/hold.ts');
  await holdCommand(process.argv.slice(3));
} else {
  const { main } = await import('./cli/program.ts');
  await main(process.argv);
}
