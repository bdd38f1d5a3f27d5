import { parentPort, workerData } from 'node:worker_threads';
import type { FuzzCase, FuzzTarget } from '@bridgekeeper/attest/testing';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import { LineCoverage } from './coverage.ts';
import type { Fault, FuzzMessage, FuzzOrder, TargetOutcome } from './messages.ts';

type Bytes = Parameters<FuzzCase['parse']>[0];

const order = workerData as FuzzOrder;
const place = new Int32Array(order.place);
const post = (message: FuzzMessage) => parentPort!.postMessage(message);

const coverage = new LineCoverage();
await coverage.start();
const authority = await import('@bridgekeeper/attest/testing');
// Most inputs end in an error, and its stack is not read.
Error.stackTraceLimit = 0;

const { FUZZ_TARGETS, shareOut } = authority;

async function run(target: FuzzTarget, count: number): Promise<TargetOutcome> {
  const { bases, parse } = await target.prepare();
  const seed = order.seed * 1000 + FUZZ_TARGETS.indexOf(target);
  const startedNs = HOST_CLOCK.nowNs();
  const pace = new Pace(parse);
  const before = (index: number) => {
    pace.next();
    place[1] = index;
  };
  const { tried, read, refused, fault } = await attempt(() =>
    authority.fuzz(seed, count, bases, pace.parse, before),
  );
  pace.next();
  const seconds = (HOST_CLOCK.nowNs() - startedNs) / 1e9;
  const slowestMs = await pace.slowestMs();
  return { target: target.name, inputs: tried, seconds, read, refused, slowestMs, fault };
}

/** Milliseconds after which an input is tried again: others may have had the processor. */
const SUSPECT_MS = 50;
const SUSPECT_TRIES = 5;

/** How long inputs take, their making included. */
class Pace {
  readonly parse: (input: Bytes) => unknown;
  readonly #suspects: Bytes[] = [];
  #last: Bytes | null = null;
  #lastNs = HOST_CLOCK.nowNs();
  #slowestNs = 0;

  constructor(parse: FuzzCase['parse']) {
    this.parse = (input) => {
      this.#last = input;
      return parse(input);
    };
  }

  /** Between two inputs. */
  next(): void {
    const nowNs = HOST_CLOCK.nowNs();
    const elapsedNs = nowNs - this.#lastNs;
    this.#lastNs = nowNs;
    if (elapsedNs <= SUSPECT_MS * 1e6) this.#slowestNs = Math.max(this.#slowestNs, elapsedNs);
    else if (this.#last !== null) this.#suspects.push(this.#last);
  }

  /** Of suspects, the least of several times counts. */
  async slowestMs(): Promise<number> {
    for (const input of this.#suspects) {
      let leastNs = Number.POSITIVE_INFINITY;
      for (let i = 0; i < SUSPECT_TRIES; i++) {
        const startedNs = HOST_CLOCK.nowNs();
        await Promise.allSettled([(async () => this.parse(input))()]);
        leastNs = Math.min(leastNs, HOST_CLOCK.nowNs() - startedNs);
      }
      this.#slowestNs = Math.max(this.#slowestNs, leastNs);
    }
    return this.#slowestNs / 1e6;
  }
}

type Outcome = Pick<TargetOutcome, 'read' | 'refused' | 'fault'> & { readonly tried: number };

async function attempt(campaign: () => ReturnType<typeof authority.fuzz>): Promise<Outcome> {
  try {
    return { ...(await campaign()), fault: null };
  } catch (error) {
    if (!(error instanceof authority.FuzzError)) throw error;
    const isAccepted = error.cause instanceof authority.WronglyAccepted;
    const fault: Fault = {
      kind: isAccepted ? 'accepted' : 'crashed',
      message: error.message,
      inputBase64: Buffer.from(error.input).toString('base64'),
    };
    return { tried: place[1]! + 1, read: 0, refused: {}, fault };
  }
}

const targets = FUZZ_TARGETS.filter(({ name }) => order.target === null || name === order.target);
const counts = shareOut(order.inputs, targets);
for (const [i, target] of targets.entries()) {
  place[0] = i;
  post({ kind: 'target', outcome: await run(target, counts[i]!) });
}
const folder = new URL('.', import.meta.resolve('@bridgekeeper/attest'));
const modules = [...new Set(targets.flatMap(({ reaches }) => reaches))].sort();
post({ kind: 'coverage', modules: await coverage.take(folder, modules) });
