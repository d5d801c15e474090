/** `juicepod inject`: what the webhook would add, offline. */
import { stringify } from 'yaml';
import { injectFile, type InjectReason } from '../admission/index.ts';
import { readText } from './options.ts';
import { print } from './report.ts';

interface InjectCommand {
  readonly filename: readonly string[];
  readonly image?: string;
  readonly platform?: string;
  readonly namespace?: string;
  readonly output: 'json' | 'yaml' | 'diff';
}

/** What was decided, for people: the platform, the mode of each volume, and the plan. */
export function tell({ kind, namespace, name, action, reason, message, warnings, explanation, plan }: InjectReason): string {
  const lines = [`${kind} ${namespace}/${name}: ${action}: ${message}`];
  if (explanation) {
    lines.push(`  platform: ${explanation.platform} (told by ${explanation.by})`);
    for (const { volume, mode, why } of explanation.volumes) lines.push(`  volume ${volume}: mode ${mode}: ${why}`);
  }
  if (reason === 'VolumeNotFound' || reason === 'CachePolicyNotFound')
    lines.push('  Only what -f names is known here: give the manifest of the JuiceVolume, or of the policy, as well.');
  for (const warning of warnings) lines.push(`  warning: ${warning}`);
  if (plan) lines.push('  plan:', stringify(plan, { lineWidth: 0 }).trimEnd().replaceAll(/^/gm, '    '));
  return `${lines.join('\n')}\n`;
}

export async function injectCommand(raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as InjectCommand;
  const { output, platform, namespace, image } = options;
  const text = options.filename.map((path) => readText(path, '--filename')).join('\n---\n');
  const result = injectFile(text, {
    fileName: options.filename.join(' '),
    ...(namespace ? { namespace } : {}),
    settings: { ...(image ? { image } : {}), ...(platform ? { platform } : {}) },
  });
  for (const reason of result.reasons) process.stderr.write(tell(reason));
  print(output === 'json' ? 'json' : 'text', result, output === 'diff' ? result.diff || '(nothing would be added)' : result.text);
  if (result.reasons.some(({ action }) => action === 'refuse')) process.exitCode = 1;
}
