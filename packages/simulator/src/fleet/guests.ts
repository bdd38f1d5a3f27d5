import {
  ControlError,
  FabricVmm,
  hostFabric,
  pretendedFacts,
  type Vmm,
} from '@bridgekeeper/control';
import { SERVER_PORT, ServerProcess } from '../product/server-process.ts';
import type { ServerSettings } from '../product/settings.ts';
import type { World } from '../product/world.ts';
import type { Life } from '../world/loop.ts';
import { Random } from '../world/random.ts';
import type { FabricProcess } from './fabric-process.ts';

type Guest = Awaited<ReturnType<Vmm['list']>>[number];
type GuestSpec = Parameters<Vmm['create']>[0];

interface TrueGuest {
  readonly spec: GuestSpec;
  readonly server: ServerProcess;
  /** It was asked to end. */
  isStopping: boolean;
  /** Nothing of it runs any more. */
  hasEnded: boolean;
  /** By which its GPUs are held, where there is a fabric. */
  readonly pid: number | null;
}

const CALL_NS = { least: 1e6, most: 40e6 };
const BOOT_NS = { least: 0.5e9, most: 5e9 };
/** What an agent waits for at most. */
const STOP_SECONDS = 5;

/** What happens to guests, for whoever judges it. */
export interface GuestWatch {
  begins(host: string, spec: GuestSpec, others: ReadonlyMap<string, GuestSpec>): void;
  asked(host: string, spec: GuestSpec, openRequests: number): void;
  /** A guest has been given a request. */
  takes(replica: string): void;
}

/**
 * What starts guests on a host: each is the product's server in a machine of its own. It is true of
 * guests what is here, whatever an agent remembers or control believes.
 */
export class SimulatedVmm {
  /** Calls fail, before or after they did what they should. */
  failing = 0;
  readonly host: string;
  readonly guests = new Map<string, TrueGuest>();
  readonly #world: World;
  readonly #random: Random;
  readonly #settings: ServerSettings;
  readonly #watch: GuestWatch;
  #made = 0;
  #boots = 0;

  /** null: its GPUs are in no fabric. */
  readonly #fabric: FabricProcess | null;

  constructor(
    world: World,
    host: string,
    settings: ServerSettings,
    watch: GuestWatch,
    fabric: FabricProcess | null,
  ) {
    this.host = host;
    this.#fabric = fabric;
    this.#world = world;
    this.#random = new Random(world.seed, `vmm ${host}`);
    this.#settings = settings;
    this.#watch = watch;
  }

  /** As an agent has it. */
  of(life: Life): Vmm {
    const call = <T>(name: string, act: () => T): Promise<T> => this.#call(life, name, act);
    const guests: Vmm = {
      facts: () => call('facts', () => this.#facts()),
      list: () => call('list', () => [...this.guests.values()].map((each) => this.#look(each))),
      create: (spec) => call(`create ${spec.replica}`, () => this.#create(spec)),
      remove: (replica) => call(`remove ${replica}`, () => this.#remove(replica)),
      giveKey: (replica) => call(`key ${replica}`, () => undefined),
    };
    const fabric = this.#fabric;
    if (fabric === null) return guests;
    return new FabricVmm(guests, hostFabric(fabric.folder, fabric.ask()));
  }

  #facts() {
    const facts = pretendedFacts(this.host);
    return this.#fabric === null
      ? facts
      : { ...facts, driverVersion: this.#fabric.board.fmVersion };
  }

  /** A guest ends by itself. */
  crash(random: Random): void {
    const running = [...this.guests.values()].filter(({ hasEnded }) => !hasEnded);
    if (running.length > 0) random.of(running).server.kill();
  }

  /** The host has lost its power: nothing is left of any guest. */
  losePower(): void {
    this.#boots += 1;
    for (const { server, pid } of [...this.guests.values()]) {
      server.bury();
      if (pid !== null) this.#fabric?.release(pid);
      this.#forget(server);
    }
    this.guests.clear();
  }

  #call<T>(life: Life, name: string, act: () => T): Promise<T> {
    const { loop, judge } = this.#world;
    const away = () => new ControlError('vmm-unavailable', `${this.host}: no answer`);
    return new Promise((resolve, reject) => {
      const isLost = this.#random.chance(this.failing);
      const isDone = !isLost || this.#random.chance(0.5);
      const boots = this.#boots;
      const wayNs = () => this.#random.between(CALL_NS.least, CALL_NS.most) / 2;
      loop.at(
        loop.nowNs + wayNs(),
        () => {
          // What was on its way to a host that lost its power is lost with it.
          if (this.#boots !== boots) return;
          const result = isDone ? act() : undefined;
          if (isLost) judge.note(`${this.host} ${name} has no answer`);
          life.at(loop.nowNs + wayNs(), () => {
            if (isLost) reject(away());
            else resolve(result as T);
          });
        },
        null,
      );
    });
  }

  #look({ spec, server, isStopping, hasEnded }: TrueGuest): Guest {
    const { replica } = spec;
    const guest = (state: Guest['state'], address: string | null = null): Guest => {
      return { replica, state, progress: state, address };
    };
    if (hasEnded) return guest('failed');
    if (isStopping) return guest('stopping');
    if (!server.isUp) return guest('booting');
    return guest('running', `http://${server.host}:${SERVER_PORT}`);
  }

  #create(spec: GuestSpec): void {
    const { replica } = spec;
    if (this.guests.has(replica)) return;
    const { loop, judge } = this.#world;
    const others = new Map([...this.guests].map(([name, each]) => [name, each.spec]));
    this.#watch.begins(this.host, spec, others);
    this.#made += 1;
    const host = `${this.host}-g${this.#made}`;
    judge.note(`${this.host} begins ${replica} as ${host} on ${spec.modules.join()}`);
    judge.reached('guest begun');
    const settings = {
      ...this.#settings,
      gatewayKey: [spec.credential],
      replicaId: replica,
      tenancyEpoch: spec.tenancy?.epoch ?? spec.epoch,
      ...(spec.tenancy?.logIndex == null ? {} : { fabricLogIndex: spec.tenancy.logIndex }),
      maxNumSeqs: spec.inFlightMax,
    };
    const pid = this.#fabric?.hold(replica, spec.modules) ?? null;
    const server = new ServerProcess(this.#world, host, settings, () => {
      guest.hasEnded = true;
      if (pid !== null) this.#fabric?.release(pid);
    });
    server.onRequest = () => this.#watch.takes(replica);
    const guest: TrueGuest = { spec, server, isStopping: false, hasEnded: false, pid };
    this.guests.set(replica, guest);
    this.#world.servers.push(server);
    const bootNs = loop.nowNs + this.#random.between(BOOT_NS.least, BOOT_NS.most);
    loop.at(bootNs, () => guest.hasEnded || server.life.isDead || server.start(), null);
  }

  #remove(replica: string): void {
    const guest = this.guests.get(replica);
    if (guest === undefined) return;
    const { server, spec } = guest;
    const { judge } = this.#world;
    if (guest.hasEnded) {
      judge.note(`${this.host} removes ${replica}`);
      judge.reached('guest removed');
      this.guests.delete(replica);
      this.#forget(server);
      return;
    }
    if (guest.isStopping || server.server === null) {
      server.kill();
      return;
    }
    this.#watch.asked(this.host, spec, server.openRequests);
    guest.isStopping = true;
    server.stop(STOP_SECONDS);
  }

  #forget(server: ServerProcess): void {
    const { servers } = this.#world;
    const at = servers.indexOf(server);
    if (at >= 0) servers.splice(at, 1);
    this.#world.disks.delete(server.host);
  }
}
