/** What is counted of a cache on disk, in all its directories together. */
import { exponential, Histogram } from '../lib/metrics.ts';

/** Of the time that blocks take to and from a cache directory, seconds. */
export const cacheSeconds = (): Histogram => new Histogram(exponential(0.00001, 2, 20));

export class DiskFigures {
  writes = 0;
  writeBytes = 0;
  drops = 0;
  evicts = 0;
  errors = 0;
  corrupt = 0;
  /** How long blocks took to be read from the disk (or from the page cache of the kernel), and to be written; seconds. */
  readonly readSeconds = cacheSeconds();
  readonly writeSeconds = cacheSeconds();
}
