/**
 * What is to be done about one name, from how each side stands to the base (what both sides were when they were last
 * equal). Pure; the rules of docs/sync.md, and nothing else decides.
 */

/**
 * How a side stands to the base: the name is not there; nothing changed; only mode, owner or times changed; the content or the kind
 * changed, or there is no base.
 */
export type Change = 'none' | 'same' | 'meta' | 'data';

export type Action =
  | 'nothing'
  /** Gone on both sides. */
  | 'forget'
  | 'push'
  | 'push-meta'
  | 'pull'
  | 'pull-meta'
  | 'delete-remote'
  | 'delete-local'
  /** Both sides have a content that the other does not know: equal ones are taken as they are, else it is a conflict. */
  | 'compare';

/** Rows: what the pod did. Columns: what others did in the volume. */
const table: Readonly<Record<Change, Readonly<Record<Change, Action>>>> = {
  none: { none: 'forget', same: 'delete-remote', meta: 'pull', data: 'pull' },
  same: { none: 'delete-local', same: 'nothing', meta: 'pull-meta', data: 'pull' },
  // A change of mode or time gives way to a change of content; among themselves the pod's is taken.
  meta: { none: 'push', same: 'push-meta', meta: 'push-meta', data: 'pull' },
  data: { none: 'push', same: 'push', meta: 'push', data: 'compare' },
};

/** Without a base a side is `none` or `data`. */
export function decide(base: boolean, local: Change, remote: Change): Action {
  if (!base && local === 'none' && remote === 'none') return 'nothing';
  return table[local][remote];
}
