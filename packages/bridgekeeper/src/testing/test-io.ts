import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CliIo } from '../cli/io.ts';
import { StubEngine } from './stub-engine.ts';

/** A process for the command line that is none: what it printed, and a way to signal it. */
export function testIo(more: Partial<CliIo> = {}) {
  const out: string[] = [];
  const err: string[] = [];
  const exits: number[] = [];
  const time = { nowNs: 0 };
  let signal: (name: string) => void = () => {};
  const stub = new StubEngine();
  const io: CliIo = {
    environment: { XDG_STATE_HOME: join(tmpdir(), `bridgekeeper-${process.pid}`) },
    readFile: () => '',
    writeFile: () => {},
    out: (line) => out.push(line),
    err: (line) => err.push(line),
    isTerminal: false,
    onSignal: (action) => {
      signal = action;
    },
    nowNs: () => time.nowNs,
    exit: (code) => exits.push(code),
    startEngine: async () => ({
      engine: stub,
      law: { name: 'off', reason: 'stub' },
      policy: { name: 'drain-first', reason: 'stub' },
      bridge: { name: 'none', reason: 'a stub crosses nothing' },
    }),
    ...more,
  };
  return { io, out, err, exits, stub, time, signal: (name: string) => signal(name) };
}
