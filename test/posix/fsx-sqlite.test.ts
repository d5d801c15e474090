/** See fsx.ts. */
import { testFsx } from './fsx.ts';

testFsx('sqlite', 6000);
