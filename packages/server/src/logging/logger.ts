import { Writable } from 'node:stream';
import { pino } from 'pino';

export type Logger = pino.Logger;

export interface LogOptions {
  readonly level: string;
  /** Lines for people; JSON lines for machines otherwise. */
  readonly pretty: boolean;
  /** File descriptor 1 or 2. */
  readonly destination: 1 | 2;
  readonly colour: boolean;
}

/** Opens the log. Prompts and completions never go in. */
export function openLog(options: LogOptions): Logger {
  const stream = pino.destination({ fd: options.destination, sync: true });
  const target = options.pretty ? prettyStream(stream, options.colour) : stream;
  return pino({ level: options.level, base: null }, target);
}

const LEVELS: Readonly<Record<number, readonly [name: string, colour: number]>> = {
  10: ['TRACE', 90],
  20: ['DEBUG', 90],
  30: ['INFO ', 32],
  40: ['WARN ', 33],
  50: ['ERROR', 31],
  60: ['FATAL', 31],
};

const OWN_FIELDS = new Set(['level', 'time', 'msg']);

/** Writes each JSON line as `12:34:56 INFO  message  key=value`. */
export function prettyLine(json: string, colour: boolean): string {
  const line = JSON.parse(json) as { level: number; time: number; msg?: string };
  const [name, code] = LEVELS[line.level] ?? ['?????', 31];
  const time = new Date(line.time).toISOString().slice(11, 19);
  const fields = Object.entries(line)
    .filter(([key]) => !OWN_FIELDS.has(key))
    .map(([key, value]) => `  ${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  const level = colour ? `\u001b[${code}m${name}\u001b[0m` : name;
  return `${time} ${level} ${line.msg ?? ''}${fields.join('')}\n`;
}

function prettyStream(stream: { write(text: string): unknown }, colour: boolean): Writable {
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      stream.write(prettyLine(chunk.toString('utf8'), colour));
      done();
    },
  });
}
