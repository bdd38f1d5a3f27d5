import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import type { ServerClock } from '../host-clock.ts';
import type { Logger } from '../logging/logger.ts';
import { UsageError } from '../settings/resolve.ts';
import type { Settings } from '../settings/table.ts';
import { ReceiptsError } from './errors.ts';
import { Receipts } from './receipts.ts';
import type { Retention } from './store.ts';

/** Where receipts are kept unless a setting says otherwise. */
export function defaultReceiptsFile(
  variables: Readonly<Record<string, string | undefined>>,
): string {
  const base = variables.XDG_STATE_HOME || join(homedir(), '.local/state');
  return join(base, 'bridgekeeper', 'receipts.sqlite');
}

export interface OpenReceipts {
  /** What `auto` means; undefined: memory. */
  readonly defaultFile: string | undefined;
  readonly log: Logger;
  readonly clock: ServerClock;
  /** As `OwnOptions` has it. */
  readonly lock?: ((fd: number) => boolean) | undefined;
}

const SECONDS_OF_A_DAY = 86_400;
/** Some 15 MB of them. */
const COUNT_IN_MEMORY_MAX = 10_000;
/** A predecessor that was told to stop is gone after its `shutdown-timeout`, or soon after this. */
const WAIT_SECONDS_MAX = 60;
/** Nobody asked for that file: whoever has it may be another server, which stays. */
const WAIT_SECONDS_AUTO = 5;

/** How many are kept, and how long. */
export function retentionOf(
  { receiptsMax, receiptsDays }: Pick<Settings, 'receiptsMax' | 'receiptsDays'>,
  { isInMemory }: { readonly isInMemory: boolean },
): Retention {
  return {
    countMax: isInMemory ? Math.min(receiptsMax, COUNT_IN_MEMORY_MAX) : receiptsMax,
    secondsMax: receiptsDays * SECONDS_OF_A_DAY,
  };
}

/**
 * Opens the receipts that the settings ask for; null: none. Waits for a file that was asked for and
 * that another process has, as long as that may take to shut down. `auto` makes do with memory
 * where its file cannot be had, and says so; where another process has it, until that lets go.
 * Throws UsageError for a file that was asked for.
 */
export async function openReceipts(
  settings: Pick<Settings, 'receipts' | 'receiptsMax' | 'receiptsDays' | 'shutdownTimeout'>,
  { defaultFile, log, clock, lock }: OpenReceipts,
): Promise<Receipts | null> {
  const { receipts: wish, shutdownTimeout } = settings;
  if (wish === 'off') return null;
  const open = (path: string | null, awaitedPath?: string) =>
    Receipts.open({
      path,
      ...(awaitedPath === undefined
        ? {}
        : {
            awaited: {
              path: awaitedPath,
              retention: retentionOf(settings, { isInMemory: false }),
            },
          }),
      retention: retentionOf(settings, { isInMemory: path === null }),
      clock,
      waitSeconds: Math.min(
        shutdownTimeout,
        wish === 'auto' ? WAIT_SECONDS_AUTO : WAIT_SECONDS_MAX,
      ),
      onWait: (message) => log.warn(`receipts: ${message}`),
      onTrouble: (message) => log.error(message),
      lock,
    });
  const file = wish === 'auto' ? defaultFile : wish;
  if (wish === 'memory' || file === undefined) return open(null);
  try {
    return await open(resolve(file));
  } catch (error) {
    if (!(error instanceof ReceiptsError)) throw error;
    if (wish !== 'auto') {
      throw new UsageError('bad-value', `--receipts: ${error.message}`, { cause: error });
    }
    if (error.code === 'in-use') {
      log.warn(`${error.message}: receipts are kept in memory until that lets go of it`);
      return open(null, resolve(file));
    }
    log.warn(`${error.message}: receipts are kept in memory and end with this process`);
    return open(null);
  }
}
