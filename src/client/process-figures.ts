/**
 * Figures of the client's process, by the names of JuiceFS and of the Prometheus libraries. Read from /proc when somebody asks; what
 * cannot be read is left out. Of Go there is nothing to tell: what `go_*` is there, `nodejs_*` is here.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { type Family, single } from '../lib/metrics.ts';

/** Clock ticks per second in /proc, on every Linux that Node runs on. */
const TICKS = 100;

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
}

/** Unix seconds at which the process began. */
function startTime(): number | undefined {
  // The name of the program, between parentheses, may hold anything; 20 fields behind it is when it began, in ticks since boot.
  const started = read('/proc/self/stat')
    ?.replace(/^.*\) /s, '')
    .split(' ')[19];
  const boot = /^btime (\d+)$/m.exec(read('/proc/stat') ?? '')?.[1];
  return started === undefined || boot === undefined ? undefined : Number(boot) + Number(started) / TICKS;
}

function limitOf(name: string): number | undefined {
  const text = new RegExp(`^${name} +(\\S+)`, 'm').exec(read('/proc/self/limits') ?? '')?.[1];
  if (text === undefined) return undefined;
  return text === 'unlimited' ? 2 ** 64 : Number(text);
}

function openFiles(): number | undefined {
  try {
    return readdirSync('/proc/self/fd').length;
  } catch {
    return undefined;
  }
}

const start = startTime();

/** The values of now. */
export function processFamilies(): readonly Family[] {
  const { rss, heapUsed, heapTotal, external, arrayBuffers } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  const cpu = (user + system) / 1e6;
  const optional = (type: 'counter' | 'gauge', name: string, help: string, value: number | undefined): Family => ({
    type,
    name,
    help,
    samples: () => (value === undefined ? [] : [{ value }]),
  });
  const virtual = /^VmSize:\s+(\d+) kB$/m.exec(read('/proc/self/status') ?? '')?.[1];
  return [
    single('gauge', 'uptime', 'Time that the client has run, seconds', () => process.uptime()),
    single('gauge', 'cpu_usage', 'Processor time that the client has used, seconds', () => cpu),
    single('gauge', 'memory', 'Memory that the client uses, bytes', () => rss),
    single('counter', 'process_cpu_seconds_total', 'User and system time of the process, seconds', () => cpu),
    single('gauge', 'process_resident_memory_bytes', 'Resident memory of the process', () => rss),
    optional(
      'gauge',
      'process_virtual_memory_bytes',
      'Address space of the process',
      virtual === undefined ? undefined : Number(virtual) * 1024,
    ),
    optional(
      'gauge',
      'process_virtual_memory_max_bytes',
      'Address space that the process may have',
      limitOf('Max address space'),
    ),
    optional('gauge', 'process_start_time_seconds', 'When the process began, Unix seconds', start),
    optional('gauge', 'process_open_fds', 'Files that the process has open', openFiles()),
    optional('gauge', 'process_max_fds', 'Files that the process may have open', limitOf('Max open files')),
    single('gauge', 'nodejs_heap_size_used_bytes', 'Heap of JavaScript in use', () => heapUsed),
    single('gauge', 'nodejs_heap_size_total_bytes', 'Heap of JavaScript', () => heapTotal),
    single('gauge', 'nodejs_external_memory_bytes', 'Memory of objects outside the heap, buffers included', () => external),
    single('gauge', 'nodejs_array_buffers_bytes', 'Memory of buffers', () => arrayBuffers),
  ];
}
