/** What `format` and `config` are told of a volume's change log. */
import { parseDuration } from '../../lib/units.ts';
import type { Format } from '../../meta/format.ts';
import { booleanOf, wholeNumberOf } from '../options.ts';

export interface ChangeLogOptions {
  readonly changelog?: string | boolean;
  readonly changelogMaxAge?: string;
  readonly changelogMaxLines?: string;
}

export type ChangeLogSettings = Pick<Format, 'changeLog' | 'changeLogMaxAge' | 'changeLogMaxLines'>;

/** What is asked for. Throws UserError naming the option. */
export function changeLogSettingsOf(options: ChangeLogOptions): Partial<ChangeLogSettings> {
  const { changelog, changelogMaxAge: age, changelogMaxLines: lines } = options;
  return {
    ...(changelog === undefined ? {} : { changeLog: booleanOf(changelog, '--changelog') }),
    ...(age === undefined ? {} : { changeLogMaxAge: Math.floor(parseDuration(age, '--changelog-max-age') / 1000) }),
    ...(lines === undefined
      ? {}
      : { changeLogMaxLines: wholeNumberOf(lines, '--changelog-max-lines', 0, Number.MAX_SAFE_INTEGER) }),
  };
}
