import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import { runCli } from './cli/program.ts';
import type { CliIo } from './io.ts';
import { sayWhenBlocked } from './silence.ts';

async function* linesOf(prompt: string): AsyncGenerator<string> {
  const isTerminal = process.stdin.isTTY === true;
  const output = isTerminal ? process.stdout : undefined;
  const reader = createInterface({ input: process.stdin, output, prompt });
  try {
    if (isTerminal) reader.prompt();
    for await (const line of reader) {
      yield line;
      if (isTerminal) reader.prompt();
    }
  } finally {
    reader.close();
  }
}

/** Loaded when it is needed: most commands end by themselves. */
function endNow(code: number): void {
  void import('@bridgekeeper/native').then(({ endProcess }) => endProcess(code));
}

const io: CliIo = {
  environment: process.env,
  readFile: (path) => readFileSync(path, 'utf8'),
  writeFile: (path, text) => {
    sayWhenBlocked(path, () => {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, text);
    });
  },
  out: (line) => void process.stdout.write(`${line}\n`),
  dialogue: { write: (text) => void process.stdout.write(text), lines: linesOf },
  err: (line) => void process.stderr.write(`${line}\n`),
  // Back to the start of the line, over it, and clear what is left of the former one.
  redraw: process.stderr.isTTY
    ? (line) => void process.stderr.write(`\r${line}\u001b[K`)
    : undefined,
  isTerminal: process.stdout.isTTY === true,
  onSignal: (action) => {
    process.on('SIGTERM', action);
    process.on('SIGINT', action);
  },
  nowNs: HOST_CLOCK.nowNs,
  exit: endNow,
  // Keeps nothing alive: where all threads have ended, this is never reached.
  exitLater: (seconds, code) => void HOST_CLOCK.every(seconds, () => endNow(code)),
  startEngine: async (...parts) => {
    const { startConfiguredEngine } = await import('@bridgekeeper/server');
    return startConfiguredEngine(...parts);
  },
};

// A reader of our output may leave early (`| head`): that is no failure of ours.
process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => {
  if (code === 'EPIPE') process.exit(0);
  io.err(`bridgekeeper: cannot write to standard output (${code})`);
  process.exit(1);
});
// Where messages cannot be written, nothing can be said about it, and work goes on.
process.stderr.on('error', () => {});

process.exitCode = await runCli(process.argv.slice(2), io);
