import { EngineError } from '@bridgekeeper/engine';
import type { EngineConfig } from './config/engine-config.ts';
import { type EnginePlace, openChannel } from './engine-channel.ts';
import type { FromEngine } from './messages.ts';
import type { StartPhase } from './start-timeline.ts';
import { ThreadedEngine, type WatchdogOptions } from './threaded-engine.ts';
import { Watchdog } from './watchdog.ts';

export interface StartOptions {
  readonly onProgress?: (bytesDone: number, bytesTotal: number) => void;
  /** Told what the model is, before it is loaded. */
  readonly onModel?: (lines: readonly string[]) => void;
  /** Told what begins now. */
  readonly onPhase?: (phase: StartPhase) => void;
  /** By default a thread of this process. */
  readonly place?: EnginePlace;
  /** By default it is trusted not to hang. */
  readonly watchdog?: WatchdogOptions;
  /** After so many seconds without a word a start has failed; by default, and with 0, never. */
  readonly quietSecondsMax?: number;
  /** Ends a start that is under way, which then rejects. */
  readonly signal?: AbortSignal;
}

/**
 * Starts the engine where it does not keep the server's thread; resolves when it is ready. Throws
 * EngineError when it cannot start.
 */
export async function startEngine(
  config: EngineConfig,
  options: StartOptions = {},
): Promise<ThreadedEngine> {
  const { place = 'thread', signal, quietSecondsMax = 0 } = options;
  const channel = openChannel(place, config);
  const abort = () => void channel.terminate();
  signal?.addEventListener('abort', abort, { once: true });
  let endWatch = () => {};
  try {
    return await new Promise<ThreadedEngine>((resolve, reject) => {
      let isReady = false;
      const watchdog = new Watchdog(quietSecondsMax);
      const look = () => {
        if (!watchdog.tick()) return;
        const message = `the engine's start said nothing for ${quietSecondsMax} s`;
        reject(new EngineError('engine-failed', `${message} (--watchdog-timeout)`));
        abort();
      };
      endWatch = options.watchdog?.clock.every(1, look) ?? endWatch;
      const receive = (message: FromEngine) => {
        watchdog.rested();
        // From then on the engine itself listens.
        if (isReady) return;
        if (message.kind === 'progress') {
          options.onProgress?.(message.bytesDone, message.bytesTotal);
        } else if (message.kind === 'phase') {
          options.onPhase?.(message.phase);
        } else if (message.kind === 'model') {
          options.onModel?.(message.lines);
        } else if (message.kind === 'ready') {
          isReady = true;
          resolve(new ThreadedEngine(channel, message.card, message.stats, options.watchdog));
        } else if (message.kind === 'failed') {
          reject(new EngineError(message.code, message.message));
        }
      };
      channel.on('message', receive);
      channel.on('error', reject);
      channel.on('exit', () => {
        reject(new EngineError('engine-failed', `the engine's ${place} ended before it was ready`));
      });
    });
  } finally {
    endWatch();
    signal?.removeEventListener('abort', abort);
  }
}
