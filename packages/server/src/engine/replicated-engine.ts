import type { EngineClient } from '@bridgekeeper/engine';
import { Replicas } from '@bridgekeeper/engine/replicas';
import type { EngineRestarts, RestartSource } from './restarting-engine.ts';

/** One of several engines with the same model. */
export type Replica = EngineClient & RestartSource;

/**
 * Several engines as one. While one is started again the others take what comes; one that fails for
 * good ends all of them, as it would alone.
 */
export class ReplicatedEngine extends Replicas<Replica> implements RestartSource {
  protected override isReady({ restarting }: Replica): boolean {
    return restarting === null;
  }

  get restarts(): EngineRestarts {
    const all = this.replicas.map(({ restarts }) => restarts);
    const failures = { ...all[0]!.failures };
    for (const cause of Object.keys(failures) as (keyof typeof failures)[]) {
      failures[cause] = all.reduce((sum, each) => sum + each.failures[cause], 0);
    }
    const lasts = all.flatMap(({ last }) => last ?? []);
    return {
      count: all.reduce((sum, { count }) => sum + count, 0),
      resumed: all.reduce((sum, { resumed }) => sum + resumed, 0),
      failures,
      last: lasts.sort((a, b) => b.failedAt - a.failedAt)[0] ?? null,
    };
  }

  /** Requests are taken while one of them takes some. */
  get restarting(): RestartSource['restarting'] {
    const all = this.replicas.map(({ restarting }) => restarting);
    return all.includes(null) ? null : all[0]!;
  }

  checkBefore(check: () => Promise<void>): void {
    for (const replica of this.replicas) replica.checkBefore(check);
  }
}
