/** See fsx.ts. */
import { testFsx } from './fsx.ts';

testFsx('redis', 6000);
