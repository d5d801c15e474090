/** Randomness as a parameter, so that tests own it. */
import { randomBytes, randomUUID } from 'node:crypto';

export interface Random {
  /** Uniform in [0, 1). */
  float(): number;
  bytes(length: number): Buffer;
  uuid(): string;
}

export const systemRandom: Random = { float: Math.random, bytes: randomBytes, uuid: () => randomUUID() };
