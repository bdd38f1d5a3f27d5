import { type ControlError, openControl, SYSTEM_CHANCE, SYSTEM_TIME } from '@bridgekeeper/control';
import type { World } from '../product/world.ts';
import type { Life } from '../world/loop.ts';
import type { Database } from './database.ts';
import { FleetProcess } from './process.ts';

/** Where whoever leads is reached: a name that leads to any of them. */
export const CONTROL_NAME = 'control';
export const CONTROL_PORT = 9080;
export const AGENTS_PORT = 9443;

/** Nobody vouches for replicas here: their reports are the real ones, under a fresh nonce. */
const ADMISSION = {
  anchors: {} as never,
  services: () => {
    throw new Error('no service is asked of replicas that operators vouch for');
  },
  allowsOperatorAsserted: true,
};

/** The product's control, one of several. */
export class ControlProcess extends FleetProcess {
  readonly kind = 'control';
  readonly #database: Database;

  constructor(world: World, host: string, database: Database) {
    super(world, host);
    this.#database = database;
  }

  get folder(): string {
    return `/sim/${this.host}/control`;
  }

  override losePower(): void {
    this.#database.losesTouch(this.life);
    super.losePower();
  }

  protected async main(life: Life): Promise<void> {
    const { judge } = this.world;
    const control = await openControl({
      folder: this.folder,
      database: this.#database.of(life),
      listen: { host: '127.0.0.1', port: CONTROL_PORT },
      agents: { host: '127.0.0.1', port: AGENTS_PORT },
      names: [CONTROL_NAME],
      admission: ADMISSION,
      predict: null,
      version: '0.0.0',
      time: SYSTEM_TIME,
      chance: SYSTEM_CHANCE,
      onTrouble: ({ code, message }: ControlError) => {
        judge.note(`${life.name}: ${message}`);
        judge.reached(`control trouble: ${code}`);
      },
      onCrash: (error) => {
        judge.violated('orderly', `${life.name}: ${(error as Error).stack ?? error}`);
      },
    });
    judge.note(`${life.name} answers`);
    judge.reached('control started');
    void control.leads.then(() => {
      judge.note(`${life.name} leads`);
      judge.reached('control leads');
    });
    await control.ended;
  }
}
