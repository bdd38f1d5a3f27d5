import { type Law, profileLaw } from '@bridgekeeper/bridge';
import { type Device, openModelDevice } from '@bridgekeeper/device';
import type { Engine } from '@bridgekeeper/engine';
import { ReaderPool, serveReads } from '@bridgekeeper/engine/loader';
import { type PreparedModel, prepareModel, startEngine } from '@bridgekeeper/engine/measure';
import { type StoreStart, serveStore } from '@bridgekeeper/engine/threads';
import { engineOptions } from '@bridgekeeper/server';
import {
  type EngineThreadData,
  hostEngine,
  keepReceipts,
  type ReceiptsThreadData,
} from '@bridgekeeper/server/threads';
import type { Life, Loop } from '../world/loop.ts';
import type { ThreadMain } from '../world/threads.ts';
import type { Machine } from './settings.ts';

/** Sees what a process opens, to break it and to look into it. */
export interface ThreadWatch {
  device(life: Life, device: Device): void;
  engine(life: Life, engine: Engine, device: Device, model: PreparedModel): void;
  /** A load begins; what it returns is told when it has ended, well or not, and holds nothing. */
  load(life: Life): () => void;
}

/** What is not there need not be held: staging for pages that move is a part of it. */
const DEVICE_BYTES = 2 ** 27;
/** Small as the caches are, so that what moves takes several crossings. */
const CROSSING_BYTES = 2 ** 16;

/** What a simulated machine has to show of itself. */
const NO_TEE = { found: null, reason: 'a simulated machine has no TEE' } as const;

const laws = new Map<string, Law>();

/** The threads of the product, each with what its script runs. */
export function threadMains(
  loop: Loop,
  machine: Machine,
  watch: ThreadWatch,
): (script: string) => ThreadMain {
  const mains: Readonly<Record<string, ThreadMain>> = {
    'engine-thread.js': (port, data) => {
      const life = loop.current!;
      const build: Parameters<typeof hostEngine>[2] = async (config, hooks = {}) => {
        hooks.onPhase?.('device');
        const law = lawOf(config.law.value!);
        const { roofline } = law.profile;
        const device = openModelDevice({
          clock: life.clock,
          law,
          roofline: {
            ...roofline,
            memoryBytes: DEVICE_BYTES,
            bf16FlopsPerSecond: roofline.bf16FlopsPerSecond / machine.slowness,
            kernelNs: roofline.kernelNs * machine.kernelSlowness,
          },
          keepsKv: true,
        });
        watch.device(life, device);
        const loaded = watch.load(life);
        // As `buildEngine` and `createEngine` do it, but for the strategy, which is the seed's.
        const { loading } = machine;
        const readers = new ReaderPool();
        if (loading !== null) readers.grow(loading.readers);
        try {
          const chosen = engineOptions(config, device);
          const { tiers } = chosen;
          const small = tiers && { ...tiers, crossingBytes: CROSSING_BYTES };
          const brought = loading === null ? {} : { loading };
          const options = { ...chosen, ...brought, readers, tiers: small, ...hooks };
          const model = await prepareModel(options);
          const engine = await startEngine(options, model);
          watch.engine(life, engine, device, model);
          return { engine, clock: device.clock };
        } catch (error) {
          await device.close();
          throw error;
        } finally {
          await readers.close();
          loaded();
        }
      };
      return hostEngine(port, (data as EngineThreadData).config, build, life.clock.every);
    },
    'machine-worker.js': (port) => {
      port.on('message', ({ ask, question }: { ask: number; question: { kind: string } }) => {
        const devices = { gpu: NO_TEE, observation: NO_TEE };
        port.postMessage({ ask, answer: question.kind === 'cpu' ? NO_TEE : devices });
      });
    },
    'read-worker.js': (port) => {
      const { clock } = loop.current!;
      serveReads(port as Parameters<typeof serveReads>[0], () => clock.nowNs());
    },
    'receipts-worker.js': (port, data) => keepReceipts(port, data as ReceiptsThreadData),
    'store-worker.js': (port, data) => serveStore(port, data as StoreStart),
  };
  return (script) => {
    const main = mains[script];
    if (main === undefined) throw new Error(`thread ${script} is not simulated`);
    return main;
  };
}

function lawOf(profile: Parameters<typeof profileLaw>[0]): Law {
  let law = laws.get(profile.name);
  if (law === undefined) {
    law = profileLaw(profile);
    laws.set(profile.name, law);
  }
  return law;
}
