/** `juicepod rotate-passphrase`: the same RSA key of an encrypted volume under another passphrase. Neither is ever shown. */
import { systemRandom } from '../../lib/random.ts';
import { UserError } from '../../lib/errors.ts';
import { rotatePassphrase } from '../../meta/encryption.ts';
import { openEngine } from '../../meta/open.ts';
import { redactUrl } from '../../meta/url.ts';
import { readText } from '../options.ts';
import { type Output, print } from '../report.ts';
import { PASSPHRASE_VARIABLE } from '../mount/settings.ts';
import { COMMAND_PATIENCE_MS } from '../volume.ts';

const NEW_PASSPHRASE_VARIABLE = 'JFS_RSA_NEW_PASSPHRASE';

export async function rotatePassphraseCommand(url: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const { newPassphraseFile: file, output } = raw as { readonly newPassphraseFile?: string; readonly output: Output };
  const newPassphrase =
    file === undefined ? process.env[NEW_PASSPHRASE_VARIABLE] : readText(file, '--new-passphrase-file').replace(/\r?\n$/, '');
  if (newPassphrase === undefined)
    throw new UserError('PassphraseMissing', 'no new passphrase was given', {
      hint: `Give it in ${NEW_PASSPHRASE_VARIABLE}, or in a file with --new-passphrase-file.`,
    });
  const engine = await openEngine(url, { existing: true, patience: COMMAND_PATIENCE_MS });
  try {
    const oldPassphrase = process.env[PASSPHRASE_VARIABLE];
    const rotated = await rotatePassphrase(engine, { oldPassphrase, newPassphrase }, systemRandom);
    print(
      output,
      { rotated },
      rotated
        ? `The key of ${redactUrl(url)} is under the new passphrase. Clients that run go on; give the new one to those that start from now on.`
        : `The key of ${redactUrl(url)} is under this passphrase already. Nothing was changed.`,
    );
  } finally {
    await engine.close();
  }
}
