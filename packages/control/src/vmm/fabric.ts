import { type AgentState, arrivalOf, statusOf } from '@bridgekeeper/fabric';
import type { HostFacts } from '../api/fleet.ts';
import { ControlError } from '../errors.ts';
import type { Guest, GuestSpec, Tenancy, Vmm } from './vmm.ts';

/**
 * The agent of this host's fabric, another process: `bridgekeeper fabric agent`. All throw
 * ControlError 'vmm-unavailable' where it does not answer, 'vmm-refused' where it refuses.
 */
export interface HostFabric {
  state(): Promise<AgentState>;
  /** Brings up a partition for somebody else's guest; takes rounds of the agent. */
  activate(tenancy: {
    readonly id: string;
    readonly tenant: string;
    readonly modules: readonly number[];
  }): Promise<void>;
  deactivate(id: string): Promise<void>;
  /** The last head of its log, a signed note. */
  checkpoint(): Promise<string | null>;
  /** Index of the entry that says that a tenancy was activated; null: none does yet. */
  activation(commitment: string, epoch: number): Promise<number | null>;
}

/** What an operator has that no replica is of: others' tenancies are left alone. */
const REPLICA = /^rep_[0-9a-z]{26}$/;
/** Of pools that are nobody's own. */
const SHARED = 'shared';

/**
 * Guests on partitions of a fabric: each gets its partition first, by the fabric's agent, which
 * logs that; then its guest, which is told its tenancy and where the log has it. It goes in the
 * reverse order. What a partition is at is what the fabric's agent says: nothing is kept here.
 */
export class FabricVmm implements Vmm {
  readonly #guests: Vmm;
  readonly #fabric: HostFabric;
  /** Entries of the log never change: by tenancy and epoch. */
  readonly #activations = new Map<string, number>();

  constructor(guests: Vmm, fabric: HostFabric) {
    this.#guests = guests;
    this.#fabric = fabric;
  }

  /** The fabric's part is as its agent has it. */
  async facts(): Promise<HostFacts> {
    const [facts, { devices, daemon, quarantine }] = await Promise.all([
      this.#guests.facts(),
      this.#fabric.state(),
    ]);
    const quarantined = Object.entries(quarantine).map(([module, reason]) => {
      return { module: Number(module), reason };
    });
    return {
      ...facts,
      fmVersion: daemon.version,
      // Fabric Manager works with a driver of its own version alone.
      driverVersion: facts.driverVersion ?? daemon.version,
      gpus: facts.gpus.map((gpu) => {
        return { ...gpu, identity: devices[gpu.module]?.identity ?? gpu.identity };
      }),
      partitions: (daemon.table?.partitions ?? []).map(({ id, modules }) => {
        return { id, modules: [...modules] };
      }),
      isFrozen: facts.isFrozen || daemon.maintenance !== null || daemon.starting !== null,
      quarantined: [...facts.quarantined, ...quarantined],
    };
  }

  async list(): Promise<readonly Guest[]> {
    // The partition first: a guest is there only while its partition is.
    const state = await this.#fabric.state();
    const guests = await this.#guests.list();
    const there = new Set(guests.map(({ replica }) => replica));
    const ids = new Set([
      ...state.tenancies.map(({ id }) => id),
      ...(state.desired?.tenancies ?? []).map(({ id }) => id),
    ]);
    const waiting = [...ids].filter((id) => REPLICA.test(id) && !there.has(id));
    return [
      ...(await Promise.all(guests.map((guest) => this.#withTenancy(guest, state)))),
      ...waiting.map((id) => partitionOf(state, id)),
    ];
  }

  async create(spec: GuestSpec): Promise<void> {
    const { replica, modules, tenant } = spec;
    const state = await this.#fabric.state();
    if (!isDesired(state, replica)) {
      await this.#fabric.activate({ id: replica, tenant: tenant ?? SHARED, modules });
      return;
    }
    const arrival = arrivalOf(state, replica);
    if (arrival === null) return;
    if (!arrival.isThere) throw new ControlError('vmm-refused', `its partition: ${arrival.why}`);
    const tenancy = await this.#tenancyOf(state, replica);
    // Its guest would not know what its receipts are to name.
    if (tenancy?.logIndex == null) return;
    await this.#guests.create({ ...spec, tenancy });
  }

  async remove(replica: string): Promise<void> {
    const guests = await this.#guests.list();
    if (guests.some((guest) => guest.replica === replica)) {
      await this.#guests.remove(replica);
      return;
    }
    if (isDesired(await this.#fabric.state(), replica)) await this.#fabric.deactivate(replica);
  }

  giveKey(replica: string, sealedKey: string): Promise<void> {
    return this.#guests.giveKey(replica, sealedKey);
  }

  checkpoint(): Promise<string | null> {
    return this.#fabric.checkpoint();
  }

  async #withTenancy(guest: Guest, state: AgentState): Promise<Guest> {
    const { replica } = guest;
    const arrival = arrivalOf(state, replica);
    const tenancy = await this.#tenancyOf(state, replica);
    // A guest whose partition is gone or has failed is none that may serve.
    if (arrival?.isThere === true) return { ...guest, tenancy };
    if (guest.state === 'stopping') return { ...guest, tenancy };
    const why = arrival?.why ?? 'it is not there';
    return { replica, state: 'failed', progress: `its partition: ${why}`, address: null, tenancy };
  }

  async #tenancyOf(state: AgentState, replica: string): Promise<Tenancy | null> {
    // Of its log's words nothing depends on a look or on who vouches.
    const { tenancies } = statusOf(state, null, 'host');
    const own = tenancies.find(({ id }) => id === replica);
    if (own === undefined) return null;
    const { commitment, epoch } = own;
    const key = `${commitment}/${epoch}`;
    const logIndex =
      this.#activations.get(key) ?? (await this.#fabric.activation(commitment, epoch));
    if (logIndex !== null) this.#activations.set(key, logIndex);
    return { epoch, logIndex };
  }
}

function isDesired({ desired }: AgentState, replica: string): boolean {
  return desired?.tenancies.some(({ id }) => id === replica) ?? false;
}

/** A guest that has at most its partition. */
function partitionOf(state: AgentState, replica: string): Guest {
  const phase = state.tenancies.find(({ id }) => id === replica)?.phase ?? 'requested';
  const guest = (now: Guest['state'], progress: string): Guest => {
    return { replica, state: now, progress, address: null };
  };
  if (!isDesired(state, replica)) return guest('stopping', `its partition is ${phase}`);
  const arrival = arrivalOf(state, replica);
  if (arrival?.isThere === false) return guest('failed', `its partition: ${arrival.why}`);
  return guest('preparing', `its partition is ${phase}`);
}
