/** What stands against a pod, and lists of policies that look for it: the first violation of a list is the answer. Pure. */

export interface Violation {
  /** CamelCase, for programs. */
  readonly reason: string;
  /** For people. */
  readonly message: string;
}

export type Policy<Input> = (input: Input) => Violation | undefined;

/** The first violation of a chain. */
export function firstViolation<Input>(chain: readonly Policy<Input>[], input: Input): Violation | undefined {
  for (const policy of chain) {
    const violation = policy(input);
    if (violation) return violation;
  }
  return undefined;
}

export const when = (violated: boolean, reason: string, message: () => string): Violation | undefined =>
  violated ? { reason, message: message() } : undefined;
