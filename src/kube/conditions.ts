/**
 * Conditions (`meta/v1 Condition`): what is known about an object, one entry per type, with why.
 *
 * `lastTransitionTime` moves only when `status` changes, so that an unchanged world yields an unchanged list and nothing
 * is written. Messages are cut to what the API accepts.
 */
import type { Condition } from './types.ts';

/** Limits of the schema of a condition. */
const MAX_MESSAGE = 32768;

export type ConditionInput = Omit<Condition, 'lastTransitionTime'>;

/** RFC 3339 with seconds, as the API writes times. */
export function timestamp(nowMs: number): string {
  return `${new Date(nowMs).toISOString().slice(0, 19)}Z`;
}

export function findCondition(conditions: readonly Condition[] | undefined, type: string): Condition | undefined {
  return conditions?.find((condition) => condition.type === type);
}

/** True where the condition is there with status True. */
export function isTrue(conditions: readonly Condition[] | undefined, type: string): boolean {
  return findCondition(conditions, type)?.status === 'True';
}

/** The list with one condition set; the same list where nothing changed. Order is kept, a new type goes last. */
export function setCondition(conditions: readonly Condition[], input: ConditionInput, nowMs: number): readonly Condition[] {
  const old = findCondition(conditions, input.type);
  const message = input.message.length > MAX_MESSAGE ? input.message.slice(0, MAX_MESSAGE) : input.message;
  const next: Condition = {
    ...input,
    message,
    lastTransitionTime: old?.status === input.status ? old.lastTransitionTime : timestamp(nowMs),
  };
  if (!old) return [...conditions, next];
  const same =
    old.status === next.status &&
    old.reason === next.reason &&
    old.message === next.message &&
    old.observedGeneration === next.observedGeneration;
  return same ? conditions : conditions.map((each) => (each === old ? next : each));
}

/** Several at once. */
export function setConditions(
  conditions: readonly Condition[],
  inputs: readonly ConditionInput[],
  nowMs: number,
): readonly Condition[] {
  return inputs.reduce((list, input) => setCondition(list, input, nowMs), conditions);
}

/** The list without a type; the same list where it was not there. */
export function removeCondition(conditions: readonly Condition[], type: string): readonly Condition[] {
  return findCondition(conditions, type) ? conditions.filter((each) => each.type !== type) : conditions;
}
