/** What a check of the tree of names found; MAX_PROBLEMS problems by name, more are counted only. */
import type { Ino } from '../../lib/int64.ts';
import { NodeType } from '../types.ts';

const MAX_PROBLEMS = 10_000;

export type ProblemKind =
  | 'missing attributes'
  | 'wrong type'
  | 'wrong parent'
  | 'wrong link count'
  | 'missing statistics'
  | 'wrong statistics'
  | 'second name'
  | 'loop'
  | 'wrong usage';

export interface Problem {
  readonly kind: ProblemKind;
  /** Undefined for the volume as a whole. */
  readonly ino: Ino | undefined;
  readonly path: Buffer | undefined;
  /** What was wanted and what was found. */
  readonly detail: string;
  readonly repaired: boolean;
}

export interface TreeReport {
  directories: number;
  files: number;
  readonly problems: Problem[];
  /** All of them, also those that are not in `problems`. */
  found: number;
  repaired: number;
}

export const newTreeReport = (): TreeReport => ({ directories: 0, files: 0, problems: [], found: 0, repaired: 0 });

/** Takes note of a problem. */
export function tell(report: TreeReport, problem: Problem): void {
  report.found++;
  if (problem.repaired) report.repaired++;
  if (report.problems.length < MAX_PROBLEMS) report.problems.push(problem);
}

const typeNames: Readonly<Record<NodeType, string>> = {
  [NodeType.File]: 'file',
  [NodeType.Directory]: 'directory',
  [NodeType.Symlink]: 'symbolic link',
  [NodeType.Fifo]: 'pipe',
  [NodeType.BlockDevice]: 'block device',
  [NodeType.CharDevice]: 'character device',
  [NodeType.Socket]: 'socket',
};
/** A kind of node, for people. */
export const typeName = (type: NodeType): string => typeNames[type] ?? `node of type ${type}`;
