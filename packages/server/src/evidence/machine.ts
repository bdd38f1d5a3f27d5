import { Worker } from 'node:worker_threads';
import type { CpuEvidence, MachineSources, Sought } from '@bridgekeeper/attest/node';
import type { ServerClock } from '../host-clock.ts';
import type { DeviceEvidence, MachineAnswer, MachineQuestion } from './machine-worker.ts';

/** A driver or an agent that takes longer has hung. Eight GPUs take some ten seconds. */
const ANSWER_SECONDS_MAX = 60;

/**
 * Asks this machine for evidence, in a thread of its own: NVML blocks its caller. The
 * thread starts with the first question.
 */
export class Machine {
  readonly #sources: MachineSources;
  readonly #clock: ServerClock;
  readonly #askers = new Map<number, (answer: MachineAnswer | null) => void>();
  #worker: Worker | undefined;
  #asks = 0;

  constructor(sources: MachineSources, clock: ServerClock) {
    this.#sources = sources;
    this.#clock = clock;
  }

  async devices(nonce: Uint8Array<ArrayBuffer>): Promise<DeviceEvidence> {
    const answer = await this.#ask({ kind: 'devices', nonce });
    return (answer as DeviceEvidence | null) ?? { gpu: NO_ANSWER, observation: NO_ANSWER };
  }

  async cpu(reportData: Uint8Array<ArrayBuffer>, entry: string): Promise<Sought<CpuEvidence>> {
    const answer = await this.#ask({ kind: 'cpu', reportData, entry });
    return (answer as Sought<CpuEvidence> | null) ?? NO_ANSWER;
  }

  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  /** null: it did not answer in time, or its thread ended. */
  #ask(question: MachineQuestion): Promise<MachineAnswer | null> {
    this.#worker ??= this.#start();
    const worker = this.#worker;
    this.#asks += 1;
    const ask = this.#asks;
    return new Promise((resolve) => {
      const giveUp = this.#clock.after(ANSWER_SECONDS_MAX, () => this.#settle(ask, null));
      this.#askers.set(ask, (answer) => {
        giveUp();
        resolve(answer);
      });
      worker.postMessage({ ask, question });
    });
  }

  #start(): Worker {
    const workerData = this.#sources;
    const worker = new Worker(new URL('./machine-worker.js', import.meta.url), { workerData });
    worker.on('message', ({ ask, answer }: { ask: number; answer: MachineAnswer }) => {
      this.#settle(ask, answer);
    });
    // An error is always followed by an exit; the next question starts a new thread.
    worker.on('error', () => undefined);
    worker.on('exit', () => {
      if (this.#worker === worker) this.#worker = undefined;
      for (const ask of [...this.#askers.keys()]) this.#settle(ask, null);
    });
    worker.unref();
    return worker;
  }

  #settle(ask: number, answer: MachineAnswer | null): void {
    const resolve = this.#askers.get(ask);
    this.#askers.delete(ask);
    resolve?.(answer);
  }
}

const NO_ANSWER = { found: null, reason: 'the machine did not answer in time' } as const;
