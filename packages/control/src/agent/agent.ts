import type { DesiredReplica, HostDesired, HostObservation } from '../api/agent.ts';
import { ControlError } from '../errors.ts';
import type { Time } from '../time.ts';
import type { Guest, Vmm } from '../vmm/vmm.ts';
import type { Memory, MemoryStore } from './memory.ts';

/** What an agent reaches control by. All throw ControlError. */
export interface ControlLink {
  /** What shall be here, once it is other than what this agent has. */
  desired(epoch: number, sequence: number, signal: AbortSignal): Promise<HostDesired>;
  observe(observation: HostObservation): Promise<void>;
}

/** Asks a guest for evidence; null while it does not answer. */
export type AskEvidence = (
  address: string,
  credential: string,
  nonce: string,
) => Promise<string | null>;

export interface AgentOptions {
  readonly host: string;
  readonly bootId: string;
  readonly vmm: Vmm;
  readonly memory: MemoryStore;
  readonly link: ControlLink;
  readonly askEvidence: AskEvidence;
  readonly time: Time;
  readonly onTrouble: (error: ControlError) => void;
}

/** A look at the host that often, and at once when control wants something else. */
const ROUND_MS = 2000;
const RETRY_MS = 1000;
/** Of one that was there. */
const GONE = 'its guest is no longer there';
/** A guest that was asked to end has so long before it is ended. */
const END_MS = 15_000;

/**
 * Holds a host to what control wants of it, and says what is so. It never does what was not in a
 * whole desired state, and knows no other words than those: what a guest is made from is the host's
 * own business.
 */
export class HostAgent {
  readonly #options: AgentOptions;
  readonly #startedMs: number;
  #memory: Memory;
  #sequence = 0;
  /** The last evidence of each replica, and what it answers. */
  readonly #evidence = new Map<string, { readonly nonce: string; readonly report: string }>();
  readonly #given = new Map<string, string>();
  /** When guests that nobody wants were last asked to end. */
  readonly #ending = new Map<string, number>();
  #nudge: (() => void) | null = null;

  constructor(options: AgentOptions) {
    this.#options = options;
    const kept = options.memory.read();
    // What it says counts as newer than all that was said before it, whatever its clock does.
    this.#startedMs = Math.max(options.time.nowMs(), kept.startedMs + 1);
    this.#memory = { ...kept, startedMs: this.#startedMs };
    options.memory.write(this.#memory);
  }

  /** Returns when the signal aborts; guests stay. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#pull(signal), this.#rounds(signal)]);
  }

  async #pull(signal: AbortSignal): Promise<void> {
    const { link, time } = this.#options;
    while (!signal.aborted) {
      const { epoch = -1, sequence = -1 } = this.#memory.desired ?? {};
      try {
        this.take(await link.desired(epoch, sequence, signal));
      } catch (error) {
        this.#trouble(error, signal);
        await time.sleep(RETRY_MS, signal);
      }
    }
  }

  async #rounds(signal: AbortSignal): Promise<void> {
    const { time } = this.#options;
    while (!signal.aborted) {
      const nudged = new AbortController();
      this.#nudge = () => nudged.abort();
      const stop = () => nudged.abort();
      signal.addEventListener('abort', stop, { once: true });
      try {
        await this.round();
      } catch (error) {
        this.#trouble(error, signal);
      }
      if (!signal.aborted) await time.sleep(ROUND_MS, nudged.signal);
      signal.removeEventListener('abort', stop);
    }
  }

  /**
   * Takes what control wants, once. Throws ControlError 'stale': another control has led since;
   * 'forbidden': it is meant for another host.
   */
  take(desired: HostDesired): void {
    const { host, memory } = this.#options;
    if (desired.host !== host) {
      throw new ControlError('forbidden', `this is ${host}, the command is for ${desired.host}`);
    }
    const last = this.#memory.desired;
    if (last !== null) {
      if (desired.epoch < last.epoch) {
        const message = `epoch ${desired.epoch} is over: ${last.epoch} has commanded since`;
        throw new ControlError('stale', message);
      }
      if (desired.sequence < last.sequence) {
        throw new ControlError('stale', `command ${last.sequence} was there already`);
      }
      if (desired.epoch === last.epoch && desired.sequence === last.sequence) return;
    }
    this.#memory = { ...this.#memory, desired };
    memory.write(this.#memory);
    this.#nudge?.();
  }

  /** Looks, does what is to be done, looks again, and says what is so. */
  async round(): Promise<void> {
    const { vmm, link, host, bootId } = this.#options;
    const before = await vmm.list();
    this.#seen(before);
    await this.#act(before);
    const guests = await vmm.list();
    this.#seen(guests);
    const { desired } = this.#memory;
    await this.#answer(guests);
    const replicas = this.#observed(guests);
    this.#sequence += 1;
    await link.observe({
      host,
      bootId,
      startedMs: this.#startedMs,
      sequence: this.#sequence,
      appliedEpoch: desired?.epoch ?? 0,
      appliedSequence: desired?.sequence ?? 0,
      facts: await vmm.facts(),
      replicas,
      checkpoint: (await vmm.checkpoint?.()) ?? null,
    });
  }

  async #act(guests: readonly Guest[]): Promise<void> {
    const { vmm } = this.#options;
    const { desired } = this.#memory;
    // Nobody has said yet what shall be here: what is here may be wanted.
    if (desired === null) return;
    const wanted = new Set(desired.replicas.map(({ replica }) => replica));
    const there = new Set(guests.map(({ replica }) => replica));
    for (const guest of guests) {
      if (!wanted.has(guest.replica)) await this.#end(guest);
    }
    for (const replica of this.#ending.keys()) {
      if (!there.has(replica)) this.#ending.delete(replica);
    }
    const { begun } = this.#memory;
    const kept = begun.filter(({ replica }) => wanted.has(replica) || there.has(replica));
    if (kept.length < begun.length) this.#remember(kept);
    for (const each of desired.replicas) {
      const guest = guests.find(({ replica }) => replica === each.replica);
      // It goes on by being asked for again.
      if (guest?.state === 'preparing' && !this.#wasThere(each.replica)) {
        await this.#tried(vmm.create(each));
      }
      if (guest !== undefined || this.#hasBegun(each.replica)) continue;
      // GPUs of one that is on its way out are not free yet, whatever control thinks.
      const isTaken = this.#memory.begun.some(({ modules }) =>
        modules.some((module) => each.modules.includes(module)),
      );
      if (isTaken) continue;
      const { replica, modules } = each;
      this.#remember([...this.#memory.begun, { replica, modules, wasThere: false }]);
      await this.#tried(vmm.create(each));
    }
    for (const { replica, sealedKey } of desired.replicas) {
      const isRunning = guests.some((guest) => guest.replica === replica && guest.address !== null);
      if (sealedKey === null || !isRunning || this.#given.get(replica) === sealedKey) continue;
      await this.#tried(
        vmm.giveKey(replica, sealedKey).then(() => {
          this.#given.set(replica, sealedKey);
        }),
      );
    }
  }

  /** Asks a guest to end; once more, which ends it, if it is still at that much later. */
  async #end({ replica, state }: Guest): Promise<void> {
    const { vmm, time } = this.#options;
    const askedMs = this.#ending.get(replica);
    if (state === 'stopping' && askedMs !== undefined && time.nowMs() - askedMs < END_MS) return;
    this.#ending.set(replica, time.nowMs());
    await this.#tried(vmm.remove(replica));
  }

  /** Asks for the evidence that is due. */
  async #answer(guests: readonly Guest[]): Promise<void> {
    const { askEvidence } = this.#options;
    for (const { replica, challenge, credential } of this.#memory.desired?.replicas ?? []) {
      if (challenge === null) {
        this.#evidence.delete(replica);
        continue;
      }
      const address = guests.find((guest) => guest.replica === replica)?.address ?? null;
      if (address === null || this.#evidence.get(replica)?.nonce === challenge) continue;
      const report = await askEvidence(address, credential, challenge);
      if (report !== null) this.#evidence.set(replica, { nonce: challenge, report });
    }
    const wanted = new Set(this.#memory.desired?.replicas.map(({ replica }) => replica));
    for (const map of [this.#evidence, this.#given]) {
      for (const replica of map.keys()) if (!wanted.has(replica)) map.delete(replica);
    }
  }

  #observed(guests: readonly Guest[]): HostObservation['replicas'] {
    const desired = new Map(
      (this.#memory.desired?.replicas ?? []).map((each) => [each.replica, each]),
    );
    const gone = { state: 'failed', progress: GONE, address: null } as const;
    const seen = guests.map((guest) => {
      const isGone = guest.state === 'preparing' && this.#wasThere(guest.replica);
      return this.#observedGuest(
        isGone ? { ...guest, ...gone } : guest,
        desired.get(guest.replica),
      );
    });
    const there = new Set(guests.map(({ replica }) => replica));
    const lost = [...desired.values()]
      .filter(({ replica }) => !there.has(replica) && this.#hasBegun(replica))
      .map((each) => this.#observedGuest({ replica: each.replica, ...gone }, each));
    return [...seen, ...lost];
  }

  #observedGuest(guest: Guest, desired: DesiredReplica | undefined) {
    const { replica, state, progress, address, tenancy } = guest;
    return {
      replica,
      epoch: desired?.epoch ?? 0,
      state,
      progress: progress.slice(0, 512),
      address,
      evidence: this.#evidence.get(replica) ?? null,
      logIndex: tenancy?.logIndex ?? null,
      tenancyEpoch: tenancy?.epoch ?? null,
    };
  }

  #hasBegun(replica: string): boolean {
    return this.#memory.begun.some((each) => each.replica === replica);
  }

  #wasThere(replica: string): boolean {
    return this.#memory.begun.some((each) => each.replica === replica && each.wasThere);
  }

  /** Guests that are more than prepared for are remembered as such. */
  #seen(guests: readonly Guest[]): void {
    const there = new Set(
      guests.filter(({ state }) => state !== 'preparing').map(({ replica }) => replica),
    );
    const isNew = ({ replica, wasThere }: Memory['begun'][number]) =>
      !wasThere && there.has(replica);
    const { begun } = this.#memory;
    if (!begun.some(isNew)) return;
    this.#remember(begun.map((each) => (isNew(each) ? { ...each, wasThere: true } : each)));
  }

  #remember(begun: Memory['begun']): void {
    this.#memory = { ...this.#memory, begun };
    this.#options.memory.write(this.#memory);
  }

  /** What cannot be done now is tried in the next round; what is so is said all the same. */
  async #tried(act: Promise<void>): Promise<void> {
    try {
      await act;
    } catch (error) {
      this.#trouble(error, null);
    }
  }

  #trouble(error: unknown, signal: AbortSignal | null): void {
    if (signal?.aborted === true) return;
    if (!(error instanceof ControlError)) throw error;
    this.#options.onTrouble(error);
  }
}
