/** See fsx.ts. */
import { testFsx } from './fsx.ts';

testFsx('mysql', 5000);
