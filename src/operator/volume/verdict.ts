/** One aspect of a volume as it was judged: what becomes a condition. */
import type { Reason } from '../../api/conditions.ts';

export interface Verdict {
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: Reason;
  readonly message: string;
}

export const yes = (message: string): Verdict => ({ status: 'True', reason: 'Succeeded', message });
export const no = (reason: Reason, message: string): Verdict => ({ status: 'False', reason, message });
export const unknown = (message: string): Verdict => ({ status: 'Unknown', reason: 'NotChecked', message });
