import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SyntheticEngine, syntheticStart } from '@bridgekeeper/server';
import type { CliIo } from '../io.ts';

/** A process for the command line that is none: what it printed, and a way to signal it. */
export function testIo(more: Partial<CliIo> = {}) {
  const out: string[] = [];
  const err: string[] = [];
  const exits: number[] = [];
  const time = { nowNs: 0 };
  let signal: (name: string) => void = () => {};
  const stub = new SyntheticEngine();
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
    exitLater: () => {},
    startEngine: async () => syntheticStart(stub),
    ...more,
  };
  return { io, out, err, exits, stub, time, signal: (name: string) => signal(name) };
}
