import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { invariant } from '@bridgekeeper/bridge';
import { type ModelCheck, RANDOM_MODELS, type RandomModel } from '@bridgekeeper/engine/selftest';
import type { EngineConfig } from '@bridgekeeper/server';
import { isIn } from './contract.ts';

/** `quick` are few, for when all would take too long. */
export const MODELS = ['none', 'quick', 'all'] as const;
export type Models = (typeof MODELS)[number];

/**
 * How one random model came out, the error that ended it, or why it is not one for this many ranks.
 */
export type ModelResult =
  | (ModelCheck & { readonly error?: undefined; readonly refused?: undefined })
  | { readonly name: string; readonly error: string; readonly refused?: undefined }
  | { readonly name: string; readonly error?: undefined; readonly refused: string };

/** The reference framework as it was found; undefined: it was not asked for. */
export type PeerFound = { readonly name: string } | { readonly skipped: string } | undefined;

/** To a process that checks models. */
export type ToModels =
  | { readonly kind: 'start'; readonly config: EngineConfig; readonly python: string | undefined }
  | { readonly kind: 'check'; readonly name: string };

/** From it: once, and then for each model. */
export type FromModels =
  | { readonly kind: 'ready'; readonly peer: PeerFound }
  | { readonly kind: 'result'; readonly result: ModelResult };

export interface ModelsReport {
  /** In the order of the models. */
  readonly models: readonly ModelResult[];
  readonly peer: PeerFound;
}

/** Each opens three contexts, and a GPU in a VM refused those of eight processes. */
const MOST_PROCESSES = 4;

export function isPassed(result: ModelResult): boolean {
  if (result.error !== undefined) return false;
  return result.refused !== undefined || result.faults.length === 0;
}

export function chooseModels(models: Models, filter: string): readonly RandomModel[] {
  if (models === 'none') return [];
  return RANDOM_MODELS.filter(
    ({ name, quick }) => (models === 'all' || quick) && isIn(filter, name),
  );
}

/**
 * Checks models on the planned device, several at once: compiling kernels and computing in float64
 * take longer than the device does. In processes of their own, so that what one breaks on a GPU
 * others do not inherit. `python` is one to run the reference framework with.
 */
export async function runModels(
  config: EngineConfig,
  models: readonly RandomModel[],
  python: string | undefined,
  onModel: (result: ModelResult) => void,
): Promise<ModelsReport> {
  const results = new Map<string, ModelResult>();
  const waiting = models.map(({ name }) => name);
  let peer: PeerFound;
  const work = async () => {
    let child: ModelsProcess | undefined;
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      if (child === undefined || child.hasEnded) child = new ModelsProcess(config, python);
      const result = await child.check(name);
      peer ??= child.peer;
      results.set(name, result);
      onModel(result);
    }
    await child?.end();
  };
  await Promise.all(Array.from({ length: processesFor(config, models.length) }, work));
  return { models: models.map(({ name }) => results.get(name)!), peer };
}

function processesFor({ bridge, ranks }: EngineConfig, models: number): number {
  // Kernels of ranks wait for each other, and a GPU runs one process's at a time.
  if (ranks > 1) return 1;
  // Under confidential computing contexts are few.
  if (bridge.value?.confidential === true) return 1;
  const most = Math.min(MOST_PROCESSES, Math.floor(availableParallelism() / 2), models);
  return Math.max(1, most);
}

/** A process that checks one model after the other. */
class ModelsProcess {
  peer: PeerFound;
  readonly #child: ChildProcess;
  readonly #ready: Promise<FromModels | string>;

  constructor(config: EngineConfig, python: string | undefined) {
    this.#child = fork(new URL('./models-process.js', import.meta.url), {
      serialization: 'advanced',
      execArgv: [],
      // Its results come as messages: standard output is the report's.
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.#ready = this.#answer({ kind: 'start', config, python });
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  async check(name: string): Promise<ModelResult> {
    const ready = await this.#ready;
    if (typeof ready === 'string') return { name, error: ready };
    if (ready.kind === 'ready') this.peer = ready.peer;
    const answer = await this.#answer({ kind: 'check', name });
    if (typeof answer === 'string') return { name, error: answer };
    invariant(answer.kind === 'result', 'each model has one result');
    return answer.result;
  }

  /** It ends when its parent is gone. */
  async end(): Promise<void> {
    if (this.hasEnded) return;
    const exit = once(this.#child, 'exit');
    this.#child.disconnect();
    await exit;
  }

  /** The next message, or how the process ended without one. */
  #answer(message: ToModels): Promise<FromModels | string> {
    const child = this.#child;
    return new Promise((resolve) => {
      const onEnd = (how: number | string | null | Error, signal?: string | null) => {
        const end = how instanceof Error ? how.message : (signal ?? `exit code ${how}`);
        resolve(`the process that checks models ended: ${end}`);
      };
      child.once('exit', onEnd).once('error', onEnd);
      child.once('message', (answer: FromModels) => {
        child.off('exit', onEnd).off('error', onEnd);
        resolve(answer);
      });
      // One that has ended cannot be told; its end says so.
      child.send(message, () => undefined);
    });
  }
}
