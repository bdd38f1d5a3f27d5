import type { World } from '../product/world.ts';
import type { Random } from '../world/random.ts';
import { type Fleet, poolOf } from './fleet.ts';

/** What is known of a row that was written: as it was acknowledged, or that nobody knows. */
interface Acknowledged {
  readonly replicas: number;
  readonly gpus: number;
}

/** One that was not answered may still be on its way. */
interface Unanswered extends Acknowledged {
  readonly sentNs: number;
}

/** What an operator does while things go wrong, and what it was told of it. */
export class Operations {
  readonly #world: World;
  readonly #fleet: Fleet;
  readonly #random: Random;
  /** By pool; null: it is not known whether the last change was written. */
  readonly #acknowledged = new Map<string, Acknowledged | null>();
  /** By pool: a connection that ends takes back nothing of what was sent over it. */
  readonly #unanswered = new Map<string, Unanswered[]>();
  #made = 0;

  constructor(world: World, fleet: Fleet, random: Random) {
    this.#world = world;
    this.#fleet = fleet;
    this.#random = random;
  }

  /** Until all is calm. */
  begin(): void {
    const { operator } = this.#fleet;
    operator.life.at(this.#world.loop.nowNs, () => void this.#run());
  }

  /** What shall be from now on, which is said until it is acknowledged. */
  async settle(): Promise<void> {
    const { operator, shape, agents, judge } = this.#fleet;
    this.#compare([...this.#acknowledged.keys()]);
    for (const { host } of agents) {
      await operator.must('PUT', `/v1/hosts/${host}`, { state: 'ready', clear: ALL_MODULES });
    }
    // What replaces others needs GPUs besides theirs, and a tenant may have no more than it has.
    await operator.must('PUT', '/v1/pools/own', ownPool(this.#fleet, 0, 1));
    while (judge.hasReplicas('own')) await operator.sleep(1000);
    await operator.must('PUT', '/v1/pools/stories', poolOf(shape, shape.replicas));
    const own = shape.gpusMax;
    await operator.must('PUT', '/v1/pools/own', ownPool(this.#fleet, own, 1));
    judge.wants('stories', shape.replicas);
    judge.wants('own', own);
  }

  async #run(): Promise<void> {
    const { operator } = this.#fleet;
    const pauseMs = this.#random.of([1000, 5000, 20_000]);
    while (!this.#world.isCalm) {
      await operator.sleep(this.#random.below(2 * pauseMs));
      if (this.#world.isCalm) return;
      await this.#random.of([this.#putPool, this.#putPool, this.#putHost, this.#drain])();
    }
  }

  /** Some change their mind while what they wanted first is on its way. */
  readonly #putPool = async (): Promise<void> => {
    const pool = this.#random.of(['stories', 'own']);
    await this.#put(pool);
    while (this.#random.chance(0.4) && !this.#world.isCalm) {
      await this.#fleet.operator.sleep(this.#random.below(SECOND_THOUGHT_MS));
      await this.#put(pool);
    }
  };

  readonly #put = async (pool: string): Promise<void> => {
    const { operator, shape } = this.#fleet;
    const replicas = this.#random.below(4);
    const gpus = this.#random.of([1, 1, 2]);
    const body =
      pool === 'own'
        ? ownPool(this.#fleet, replicas, gpus)
        : poolOf(shape, replicas, { gpus, replicas: { min: Math.min(1, replicas), max: 3 } });
    this.#made += 1;
    this.#acknowledged.set(pool, null);
    const sentNs = this.#world.loop.nowNs;
    const said = { replicas: body.replicas.min, gpus };
    const { status } = await operator.call('PUT', `/v1/pools/${pool}`, body);
    this.#note(`put ${pool} ${replicas} of ${gpus}`, status);
    if (status === null) {
      this.#unanswered.set(pool, [...(this.#unanswered.get(pool) ?? []), { ...said, sentNs }]);
    }
    if (status !== 200) return;
    this.#acknowledged.set(pool, said);
    this.#compare([pool]);
  };

  readonly #putHost = async (): Promise<void> => {
    const { operator, agents } = this.#fleet;
    const { host } = this.#random.of(agents);
    const state = this.#random.of(['ready', 'ready', 'cordoned', 'draining']);
    const { status } = await operator.call('PUT', `/v1/hosts/${host}`, {
      state,
      clear: ALL_MODULES,
    });
    this.#note(`put ${host} ${state}`, status);
  };

  readonly #drain = async (): Promise<void> => {
    const { operator, judge } = this.#fleet;
    const replica = judge.someReplica(this.#random);
    if (replica === null) return;
    const { status } = await operator.call('POST', `/v1/replicas/${replica}/drain`);
    this.#note(`drain ${replica}`, status);
  };

  #note(what: string, status: number | null): void {
    const { judge } = this.#world;
    judge.note(`operator: ${what}: ${status}`);
    judge.reached(`operator: ${what.split(' ', 1)[0]} ${status}`);
  }

  /**
   * What was acknowledged is written, unless what was sent before it, and never answered, has come
   * after it: so it is with HTTP, and no server can know of it.
   */
  #compare(pools: readonly string[]): void {
    const { judge } = this.#fleet;
    for (const pool of pools) {
      const known = this.#acknowledged.get(pool);
      if (known === null || known === undefined) continue;
      const written = judge.pool(pool);
      const isWritten = ({ gpus, replicas }: Acknowledged) =>
        written?.gpus === gpus && written?.replicas.min === replicas;
      const late = (this.#unanswered.get(pool) ?? []).filter(
        ({ sentNs }) => this.#world.loop.nowNs - sentNs <= UNDER_WAY_NS,
      );
      if (!isWritten(known) && late.some(isWritten)) this.#world.judge.reached('late change');
      this.#world.judge.require(
        isWritten(known) || late.some(isWritten),
        'acknowledged',
        () =>
          `${pool} was acknowledged as ${JSON.stringify(known)}, and is ${JSON.stringify(written)}`,
      );
    }
  }
}

/** A guest has started by then, and may not have shown evidence yet. */
const SECOND_THOUGHT_MS = 8000;
/** The longest cut of a path, and as long as an answer is waited for. */
const UNDER_WAY_NS = 75e9;
const ALL_MODULES = [1, 2, 3, 4, 5, 6, 7, 8];

/** Of one tenant alone, under its quota of GPUs. */
function ownPool({ shape }: Fleet, replicas: number, gpus: number) {
  return { ...poolOf(shape, replicas, { gpus, tenant: 'aurora' }), models: ['own'] };
}
