import type { DesiredReplica } from '../api/agent.ts';
import type { HostFacts } from '../api/fleet.ts';

/** What a guest is made from. Data: which program or image that is, the host knows. */
export type GuestSpec = Pick<
  DesiredReplica,
  'replica' | 'epoch' | 'image' | 'models' | 'modules' | 'partition' | 'credential' | 'inFlightMax'
> & {
  /** Whose it is alone; null or left out: nobody's own. */
  readonly tenant?: string | null;
  /** Of its partition, where a fabric's agent made one. */
  readonly tenancy?: Tenancy | null;
};

/** A life of a partition, as the log of its fabric has it: what receipts name. */
export interface Tenancy {
  readonly epoch: number;
  /** The entry that says that it was activated; null: there is none yet. */
  readonly logIndex: number | null;
}

export interface Guest {
  readonly replica: string;
  /**
   * `preparing`: `create` is to be called again until it is not. `stopping` only while something
   * of it runs: what has ended is `failed` until it is removed.
   */
  readonly state: 'preparing' | 'booting' | 'running' | 'stopping' | 'failed';
  /** What it is at, or why it failed; one line. */
  readonly progress: string;
  /** Where its API answers, once it does. */
  readonly address: string | null;
  readonly tenancy?: Tenancy | null;
}

/** As settings of `serve`: which replica it is, and that its requests come from gateways. */
export function settingsOf(spec: GuestSpec): Record<string, string> {
  const { replica, epoch, credential, tenancy } = spec;
  const index = tenancy?.logIndex ?? null;
  return {
    BRIDGEKEEPER_GATEWAY_KEY: credential,
    BRIDGEKEEPER_REPLICA_ID: replica,
    BRIDGEKEEPER_TENANCY_EPOCH: String(tenancy?.epoch ?? epoch),
    ...(index === null ? {} : { BRIDGEKEEPER_FABRIC_LOG_INDEX: String(index) }),
  };
}

/**
 * What starts guests on a host. Everything may be repeated, and what is true after a call is what
 * `list` says. All throw ControlError 'vmm-unavailable' (it did not answer: what was requested may
 * or may not have happened) or 'vmm-refused'.
 */
export interface Vmm {
  /** What the host is; of its GPUs, what is known while they are with guests. */
  facts(): Promise<HostFacts>;
  /** All guests of ours, also those of an earlier agent's time. */
  list(): Promise<readonly Guest[]>;
  /** Never makes a second one of the same replica. */
  create(spec: GuestSpec): Promise<void>;
  /**
   * Asks a guest to end, and again: ends it; removes what is left of one that has ended. Also one
   * that is not there. `list` has it until nothing of it is left.
   */
  remove(replica: string): Promise<void>;
  /** Hands a sealed key to a guest, which alone can open it. */
  giveKey(replica: string, sealedKey: string): Promise<void>;
  /** The last head of the log of its fabric, a signed note; null or left out: it has none. */
  checkpoint?(): Promise<string | null>;
}
