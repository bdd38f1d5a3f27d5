import { POSTGRES_IDLE_MS } from '@bridgekeeper/control/testing';
import { GATEWAY_HOST, GatewayProcess } from '../product/gateway-process.ts';
import type { ServerSettings } from '../product/settings.ts';
import type { World } from '../product/world.ts';
import type { Random } from '../world/random.ts';
import { AgentProcess } from './agent-process.ts';
import { CONTROL_NAME, CONTROL_PORT, ControlProcess } from './control-process.ts';
import { Database } from './database.ts';
import { FabricProcess } from './fabric-process.ts';
import { FleetJudge } from './fleet-judge.ts';
import { SimulatedVmm } from './guests.ts';
import { Operator } from './operator.ts';

type Until = (limitNs: number, isDone: () => boolean) => boolean;

/** How a fleet is, which is a part of the seed. */
export interface FleetShape {
  readonly controls: number;
  readonly hosts: number;
  readonly maxAgeSeconds: number;
  readonly replicas: number;
  readonly drainSeconds: number;
  readonly inFlightMax: number;
  readonly gpusMax: number;
  /** GPUs are in partitions of a fabric, which its own agent brings up. */
  readonly hasFabric: boolean;
}

export function drawShape(random: Random): FleetShape {
  return {
    controls: random.of([1, 2, 2, 2]),
    hosts: random.between(1, 2),
    maxAgeSeconds: random.of([20, 40, 120]),
    replicas: random.between(1, 3),
    drainSeconds: random.of([1, 5, 20]),
    inFlightMax: random.between(2, 8),
    gpusMax: random.between(1, 3),
    hasFabric: random.chance(0.4),
  };
}

/** Controls, their database, and agents on hosts, before which a gateway is. */
export class Fleet {
  readonly shape: FleetShape;
  readonly database: Database;
  readonly controls: ControlProcess[] = [];
  readonly agents: AgentProcess[] = [];
  readonly operator: Operator;
  readonly judge: FleetJudge;
  /** Keys of tenants, as clients have them. */
  keys: readonly string[] = [];
  readonly #world: World;
  readonly #settings: ServerSettings;
  readonly #random: Random;

  constructor(world: World, settings: ServerSettings, shape: FleetShape, random: Random) {
    this.#world = world;
    this.#settings = settings;
    this.#random = random;
    this.shape = shape;
    this.judge = new FleetJudge(world, this);
    this.database = new Database(world, POSTGRES_IDLE_MS * 1e6, this.judge);
    this.operator = new Operator(world);
    for (let index = 0; index < shape.controls; index++) {
      this.controls.push(new ControlProcess(world, `c${index}`, this.database));
    }
    const { resolve } = world.network;
    world.network.resolve = (name) => (name === CONTROL_NAME ? this.#leader() : resolve(name));
  }

  get fabrics(): readonly FabricProcess[] {
    return this.agents.flatMap(({ fabric }) => fabric ?? []);
  }

  get vmms(): readonly SimulatedVmm[] {
    return this.agents.map(({ vmm }) => vmm);
  }

  /** Brings everything up, before anything fails; false: it does not come up. */
  found(until: Until): boolean {
    const { controls } = this;
    const [first] = controls;
    const path = (name: string) => `${first!.folder}/${name}.key`;
    const read = (name: string): string | null => {
      const file = first!.disk.get(path(name));
      if (file === undefined || file === 'folder') return null;
      return file.data.subarray(0, file.size).toString().trim();
    };
    first!.start();
    if (!until(30e9, () => this.judge.leader === first!.life && read('gateway') !== null)) {
      return false;
    }
    for (const control of controls.slice(1)) control.start();
    this.operator.key = read('operator')!;
    let isFounded = false;
    this.operator.life.at(this.#world.loop.nowNs, () => {
      void this.#makeAccounts().then(() => {
        isFounded = true;
      });
    });
    if (!until(120e9, () => isFounded)) return false;
    const gateway = new GatewayProcess(this.#world, {
      kind: 'control',
      urls: [`http://${CONTROL_NAME}:${CONTROL_PORT}`],
      key: read('gateway')!,
      name: GATEWAY_HOST,
      stateFile: `/sim/${GATEWAY_HOST}/routes-of-control.json`,
    });
    this.#world.gateway = gateway;
    gateway.start();
    for (const agent of this.agents) {
      agent.fabric?.start();
      agent.start();
    }
    return until(200e9, () => this.judge.isAsWanted);
  }

  bury(): void {
    for (const each of [...this.controls, ...this.agents, ...this.fabrics]) each.bury();
  }

  async #makeAccounts(): Promise<void> {
    const { operator, shape } = this;
    await operator.must('PUT', '/v1/policies/trial', {
      policy: 'operator-asserted',
      maxAgeSeconds: shape.maxAgeSeconds,
    });
    const keys: string[] = [];
    for (const tenant of ['aurora', 'borea', 'corona']) {
      const quota = {
        requestsPerMinute: null,
        tokensPerMinute: null,
        inFlightMax: null,
        gpusMax: shape.gpusMax,
        weight: 1,
      };
      await operator.must('PUT', `/v1/tenants/${tenant}`, { quota });
      const { key } = await operator.must('POST', '/v1/keys', { role: 'tenant', tenant });
      keys.push(key);
    }
    this.keys = keys;
    for (let index = 0; index < shape.hosts; index++) {
      const host = `h${index}`;
      const { token } = await operator.must('POST', '/v1/join-tokens', { host });
      const fabric = shape.hasFabric ? new FabricProcess(this.#world, host) : null;
      const vmm = new SimulatedVmm(this.#world, host, this.#settings, this.judge, fabric);
      this.agents.push(new AgentProcess(this.#world, vmm, fabric, token, this.judge));
    }
    await operator.must('PUT', '/v1/pools/stories', poolOf(shape, shape.replicas));
    this.judge.wants('stories', shape.replicas);
  }

  /** A name that leads to who leads, as far as is known, and now and then to another. */
  #leader(): string {
    const leading = this.controls.find(({ life }) => life === this.judge.leader);
    if (leading !== undefined && this.#random.chance(0.8)) return leading.host;
    return this.#random.of(this.controls).host;
  }
}

export interface PoolBody {
  readonly replicas: { readonly min: number; readonly max: number };
  readonly [name: string]: unknown;
}

export function poolOf(shape: FleetShape, replicas: number, more: object = {}): PoolBody {
  return {
    models: ['story'],
    image: 'storyteller',
    policy: 'trial',
    replicas: { min: replicas, max: replicas },
    inFlightMax: shape.inFlightMax,
    drainSeconds: shape.drainSeconds,
    startSeconds: 60,
    ...more,
  };
}
