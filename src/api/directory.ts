/**
 * Owner and permissions of the directory that an entry of the annotation has as its subPath, for where it must be made:
 *
 *   [{name: claims, mountPath: /home, subPath: alice, owner: "1000:1000", permissions: "0770"}]
 *
 * Text in, numbers out. The client makes the directory with them, in one step, and leaves one that exists as it is.
 */
import type { PlanDirectory } from './plan.ts';

const OWNER = /^(\d{1,10}):(\d{1,10})$/;
const PERMISSIONS = /^0?[0-7]{3,4}$/;
/** The last id is "nobody said" to the kernel. */
const MAX_ID = 2 ** 32 - 2;

/** `fail` throws, with a sentence about the entry. */
export function directoryOf(
  entry: {
    readonly owner?: string | undefined;
    readonly permissions?: string | undefined;
    readonly subPath: string;
    readonly readOnly: boolean;
  },
  fail: (what: string) => never,
): PlanDirectory | undefined {
  const { owner, permissions, subPath, readOnly } = entry;
  if (owner === undefined && permissions === undefined) return undefined;
  const field = owner === undefined ? 'permissions' : 'owner';
  if (subPath === '') return fail(`${field} is of the directory that subPath names, and there is no subPath`);
  if (readOnly) return fail(`${field} is for a directory that is made where it is missing, which a read-only mount never does`);
  const ids = OWNER.exec(owner ?? '0:0');
  const [uid, gid] = [Number(ids?.[1]), Number(ids?.[2])];
  if (!ids || uid > MAX_ID || gid > MAX_ID)
    return fail(`owner ${JSON.stringify(owner?.slice(0, 40))} is not "user:group" in numbers; write for example "1000:1000"`);
  if (permissions !== undefined && !PERMISSIONS.test(permissions))
    return fail(
      `permissions ${JSON.stringify(permissions.slice(0, 40))} are not octal permissions in quotes; write for example "0770"`,
    );
  return { uid, gid, mode: Number.parseInt(permissions ?? '0755', 8) };
}
