import { ControlError } from '@bridgekeeper/control';
import { FabricError } from '@bridgekeeper/fabric';
import type { World } from '../product/world.ts';
import type { Disk } from '../world/disk.ts';
import type { Life } from '../world/loop.ts';

/** What starts a process again that has ended, as systemd does. */
const RESTART_NS = { least: 50e6, most: 2e9 };

/** A process of the fleet on a host of its own, over all its lives. */
export abstract class FleetProcess {
  readonly host: string;
  readonly disk: Disk;
  life: Life;
  starts = 0;
  protected readonly world: World;

  readonly #name: string;

  constructor(world: World, host: string, name = host) {
    this.world = world;
    this.host = host;
    this.#name = name;
    this.disk = world.disk(host);
    if (this.disk.get(`/sim/${host}`) === undefined) this.disk.makeFolder(`/sim/${host}`);
    this.life = this.#newLife();
  }

  /** What it does for as long as it lives. Rejects with an error of the product: it ends. */
  protected abstract main(life: Life): Promise<void>;

  /** What is to be forgotten with a life. */
  protected ended(): void {}

  start(): void {
    const { loop, judge } = this.world;
    const { life } = this;
    this.starts += 1;
    judge.note(`${life.name} starts`);
    life.at(loop.nowNs, () => {
      this.main(life).then(
        () => this.#left(life, 'has ended'),
        (error: Error) => {
          if (!(error instanceof ControlError || error instanceof FabricError)) {
            judge.violated('orderly', `${life.name} ends: ${error.stack ?? error.message}`);
          }
          judge.reached(`${this.kind} ended: ${(error as Error & { code?: string }).code}`);
          this.#left(life, `ends: ${error.message}`);
        },
      );
    });
  }

  abstract readonly kind: string;

  /** As by kill -9: its files stay as they are. */
  kill(): void {
    this.world.judge.note(`${this.life.name} is killed`);
    this.#end();
  }

  /** The machine loses its power: of its files, what was synced is left. */
  losePower(): void {
    this.world.judge.note(`${this.host} loses its power`);
    this.world.bury(this.life);
    this.disk.fail();
    this.#end();
  }

  /** It gets no processor for a while. */
  pause(forNs: number): void {
    this.life.stoppedUntilNs = this.world.loop.nowNs + Math.ceil(forNs);
  }

  bury(): void {
    this.world.bury(this.life);
  }

  #left(life: Life, how: string): void {
    this.world.judge.note(`${life.name} ${how}`);
    if (this.life === life && !life.isDead) this.#end();
  }

  #end(): void {
    const { loop } = this.world;
    const { wallOffSeconds } = this.life;
    this.world.bury(this.life);
    this.ended();
    this.life = this.#newLife();
    // The clock is the machine's.
    this.life.wallOffSeconds = wallOffSeconds;
    const { life } = this;
    const delayNs = life.random.between(RESTART_NS.least, RESTART_NS.most);
    loop.at(loop.nowNs + delayNs, () => this.life === life && this.start(), null);
  }

  #newLife(): Life {
    return this.world.newLife(`${this.#name}#${this.starts + 1}`, this.host);
  }
}
