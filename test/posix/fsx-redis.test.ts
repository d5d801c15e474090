/** See fsx.ts. */
import { testFsx } from './fsx.ts';

testFsx('redis', 20_000);
