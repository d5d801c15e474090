/** See fsx.ts. */
import { testFsx } from './fsx.ts';

testFsx('postgres', 5000);
