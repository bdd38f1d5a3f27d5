import type { Logger } from '@bridgekeeper/server';
import { Disk, OpenFiles } from '../world/disk.ts';
import { Judge } from '../world/judge.ts';
import { BEGIN_UNIX_MS, Life, Loop } from '../world/loop.ts';
import { Network } from '../world/network.ts';
import { Random } from '../world/random.ts';
import type { GatewayProcess } from './gateway-process.ts';
import type { SealedModel } from './sealed-model.ts';
import type { ServerProcess } from './server-process.ts';

/** Everything that there is in one simulation. */
export class World {
  readonly seed: number;
  readonly loop = new Loop();
  readonly network: Network;
  readonly files = new OpenFiles();
  readonly disks = new Map<string, Disk>();
  readonly judge: Judge;
  /** Warnings and worse are a part of the history. */
  readonly log: Logger;
  readonly servers: ServerProcess[] = [];
  /** That servers load; null: theirs are dummies. */
  sealed: SealedModel | null = null;
  /** null: clients ask servers themselves. */
  gateway: GatewayProcess | null = null;
  readonly #databases = new Map<Life, (() => void)[]>();
  /** From when on nothing fails any more; null: not yet. */
  calmSinceNs: number | null = null;

  constructor(seed: number, keepsHistory: boolean, onViolation: () => void) {
    this.seed = seed;
    this.network = new Network(this.loop, new Random(seed, 'network'));
    this.judge = new Judge(() => this.loop.nowNs, keepsHistory, onViolation);
    const noted = (...args: unknown[]) => {
      const name = this.loop.current?.name ?? '?';
      const [first] = args as { cause?: unknown }[];
      if (typeof first?.cause === 'string') this.judge.reached(`engine failed: ${first.cause}`);
      this.judge.note(`${name} says: ${args.filter((each) => typeof each === 'string').join(' ')}`);
    };
    const quiet = () => undefined;
    this.log = {
      trace: quiet,
      debug: quiet,
      info: quiet,
      warn: noted,
      error: noted,
      fatal: noted,
    } as unknown as Logger;
  }

  /** Milliseconds since 1970, by a clock that is right. */
  get trueUnixMs(): number {
    return BEGIN_UNIX_MS + Math.floor(this.loop.nowNs / 1e6);
  }

  get isCalm(): boolean {
    return this.calmSinceNs !== null;
  }

  /** Whether every process runs and takes requests. */
  get isUp(): boolean {
    return this.servers.every(({ isUp }) => isUp) && this.gateway?.isUp !== false;
  }

  disk(host: string): Disk {
    let disk = this.disks.get(host);
    if (disk === undefined) {
      disk = new Disk(new Random(this.seed, `disk ${host}`));
      this.disks.set(host, disk);
    }
    return disk;
  }

  newLife(name: string, host: string): Life {
    return new Life(this.loop, name, host, new Random(this.seed, `life ${name}`));
  }

  /** A process has opened a database: `close` gives back memory that is not JavaScript's. */
  opened(close: () => void): void {
    const life = this.loop.current;
    if (life === null) return;
    const list = this.#databases.get(life) ?? [];
    list.push(close);
    this.#databases.set(life, list);
  }

  /** Ends a process: nothing of it runs any more, and its system takes back what it had. */
  bury(life: Life): void {
    if (life.isDead) return;
    life.kill();
    this.network.died(life);
    this.files.closeAllOf(life);
    for (const close of this.#databases.get(life) ?? []) {
      try {
        close();
      } catch {
        // Its files are closed already.
      }
    }
    this.#databases.delete(life);
  }

  serverOf(life: Life): ServerProcess | undefined {
    return this.servers.find((each) => each.life === life);
  }

  startRefused(process: ServerProcess, error: Error & { code?: string }): void {
    if (process.mayRefuse) return;
    this.judge.violated('orderly', `${process.host} cannot start: ${error.message}`);
  }
}
