/** Figures of what is read past this process: of files, for their bytes are not seen here. None is a name of JuiceFS. */
import { type Family, single } from '../lib/metrics.ts';

export interface PassthroughFigures {
  readonly opens: number;
  readonly files: number;
  readonly updates: number;
  readonly stores: number;
  readonly whole: number;
  readonly wholeBytes: number;
  readonly made: number;
  readonly evicted: number;
}

/** Figures of what is read past this process: of files, for their bytes are not seen here. None is a name of JuiceFS. */
export function passthroughFamilies(now: PassthroughFigures): readonly Family[] {
  const figure = (type: 'counter' | 'gauge', name: string, help: string, value: number): Family =>
    single(type, name, `${help} (not a name of JuiceFS)`, () => value);
  return [
    figure('counter', 'passthrough_opens', 'Opened files that the kernel reads past the client', now.opens),
    figure('gauge', 'passthrough_files', 'Files that are open so', now.files),
    figure('counter', 'passthrough_updates', 'Whole files brought up to date under their readers', now.updates),
    figure('counter', 'passthrough_stores', 'Pieces of mapped files that were stored to and collected', now.stores),
    figure('gauge', 'whole_files', 'Whole files in the cache directory', now.whole),
    figure('gauge', 'whole_files_bytes', 'Bytes of whole files in the cache directory', now.wholeBytes),
    figure('counter', 'whole_files_made', 'Whole files made', now.made),
    figure('counter', 'whole_files_evicts', 'Whole files dropped for room', now.evicted),
  ];
}
