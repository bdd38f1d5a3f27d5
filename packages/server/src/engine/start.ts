import { Worker } from 'node:worker_threads';
import { EngineError } from '@bridgekeeper/engine';
import type { EngineConfig } from './config/engine-config.ts';
import type { EngineThreadData, FromEngine } from './messages.ts';
import type { StartPhase } from './start-timeline.ts';
import { ThreadedEngine } from './threaded-engine.ts';

export interface StartOptions {
  readonly onProgress?: (bytesDone: number, bytesTotal: number) => void;
  /** Told what the model is, before it is loaded. */
  readonly onModel?: (lines: readonly string[]) => void;
  /** Told what begins now. */
  readonly onPhase?: (phase: StartPhase) => void;
}

/**
 * Starts the engine in a thread of its own; resolves when it is ready. Throws EngineError when it
 * cannot start.
 */
export async function startEngine(
  config: EngineConfig,
  options: StartOptions = {},
): Promise<ThreadedEngine> {
  const workerData: EngineThreadData = { config };
  const worker = new Worker(new URL('./engine-thread.js', import.meta.url), { workerData });
  return new Promise<ThreadedEngine>((resolve, reject) => {
    const receive = (message: FromEngine) => {
      if (message.kind === 'progress') {
        options.onProgress?.(message.bytesDone, message.bytesTotal);
      } else if (message.kind === 'phase') {
        options.onPhase?.(message.phase);
      } else if (message.kind === 'model') {
        options.onModel?.(message.lines);
      } else if (message.kind === 'ready') {
        worker.off('message', receive);
        worker.off('error', reject);
        resolve(new ThreadedEngine(worker, message.card, message.stats));
      } else if (message.kind === 'failed') {
        reject(new EngineError(message.code, message.message));
      }
    };
    worker.on('message', receive);
    worker.on('error', reject);
    worker.once('exit', () => {
      reject(new EngineError('engine-failed', 'the engine thread ended before it was ready'));
    });
  });
}
