import type { RestartMode } from '../log/entries.ts';

/** Changes the host. Everything may be repeated. All throw FabricError 'host-refused'. */
export interface HostControl {
  /** A secondary bus reset: one of the function alone leaves firmware state of the last guest. */
  reset(bdf: string): Promise<void>;
  /** Resolves once this driver has it. */
  bind(bdf: string, driver: 'nvidia' | 'vfio-pci'): Promise<void>;
  /** Starts Fabric Manager after it ended, with the table that its configuration names. */
  startDaemon(mode: RestartMode): Promise<void>;
  stopDaemon(): Promise<void>;
}

/** What a guest is started from. */
export interface GuestOrder {
  readonly image: string;
  readonly memoryBytes: number;
}

/** What starts virtual machines; `HostProbe` lists them. Both throw FabricError 'vm-failed'. */
export interface VirtualMachines {
  /** Never makes a second one of the same id. */
  start(id: string, guest: GuestOrder, bdfs: readonly string[]): Promise<void>;
  /** Also of one that is not there. */
  stop(id: string): Promise<void>;
}

/** What a guest's evidence says, after `attest` has checked it under a policy. */
export interface GuestEvidence {
  readonly nonce: string;
  /** SHA-256 of the evidence, 64 hex digits. */
  readonly digest: string;
  /** Why the policy refuses it; empty: it holds. */
  readonly refusals: readonly string[];
  /** The GPUs' permanent identities as their certificates say, in the evidence's order. */
  readonly identities: readonly string[];
}

/** Asks guests for evidence. Throws FabricError 'vm-failed' while none can be had. */
export interface Guests {
  attest(vm: string, nonce: string): Promise<GuestEvidence>;
}

/** Whom requests are sent to. */
export interface Gateway {
  list(): Promise<readonly { readonly vm: string; readonly streams: number }[]>;
  admit(vm: string, evidenceDigest: string): Promise<void>;
  /** Nothing new is sent there; what runs may end. */
  withdraw(vm: string): Promise<void>;
}
