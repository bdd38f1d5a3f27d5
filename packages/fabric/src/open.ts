import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { NoteKey } from '@bridgekeeper/attest/log';
import type { Clock } from '@bridgekeeper/bridge';
import { Agent, type AgentOptions } from './agent/agent.ts';
import { FileStore, lockAgent } from './agent/store.ts';
import { FabricError } from './errors.ts';
import type { FabricManager } from './fm/manager.ts';
import type { HostControl } from './host/control.ts';
import type { HostProbe } from './host/host.ts';
import { type DaemonPlaces, type DriverView, LinuxHost } from './host/linux.ts';
import { linuxParts, programRunner } from './host/linux-parts.ts';
import { NO_GUESTS, ProgramHands } from './host/program.ts';
import type { Grade } from './log/entries.ts';
import { FileLog } from './log/file-log.ts';
import { noteSigner, signingKey } from './log/note.ts';
import { Witness, witnessFile } from './log/witness.ts';
import { look, type Sight } from './tenancy/sight.ts';
import { type AgentState, emptyState } from './tenancy/state.ts';

/** What a host's agent is told by its command line. */
export interface HostSettings {
  readonly host: string;
  readonly folder: string;
  /** Where this host's files are: `/`, or where a container has them. */
  readonly root: string;
  readonly grade: Grade;
  readonly version: string;
  /** Null: no VMs of ours. */
  readonly vmProgram: string | null;
  readonly daemon: DaemonPlaces;
  readonly clock: Clock;
  readonly nowMs: () => number;
  /** 64 hex digits that nobody can guess. */
  readonly randomHex: () => string;
}

/** What is reached through NVIDIA's libraries. */
export interface HostLibraries {
  readonly fm: FabricManager;
  readonly driverView: (bdf: string) => DriverView | null;
  /** Fabric Manager runs elsewhere: it is not seen here, and not started or stopped from here. */
  readonly isFmElsewhere: boolean;
}

export interface OpenAgent {
  readonly agent: Agent;
  /** The host's log, which the agent appends to. */
  readonly log: FileLog;
  /** What is seen now. */
  readonly look: () => Promise<Sight>;
  /** Lets the next agent of this host begin. */
  readonly close: () => void;
}

/** Makes this process the agent of its host. Throws FabricError. */
export async function openAgent(
  settings: HostSettings,
  libraries: HostLibraries,
): Promise<OpenAgent> {
  const { unlock } = lockAgent(settings.folder);
  try {
    const ports = portsOf(settings, libraries);
    const log = openLog(settings);
    const agent = await Agent.open({ ...ports, log });
    const { probe, hands, clock } = ports;
    const close = () => {
      log.close();
      unlock();
    };
    return { agent, log, look: () => look(probe, hands.fm, hands.gateway, clock), close };
  } catch (error) {
    unlock();
    throw error;
  }
}

/**
 * The log beside the state, signed by a key that is made with it and never replaced. Throws
 * FabricError.
 */
export function openLog({
  folder,
  host,
  nowMs,
}: Pick<HostSettings, 'folder' | 'host' | 'nowMs'>): FileLog {
  const signer = noteSigner(`bk/${host}/fabric`, 'log', signingKey(join(folder, 'log.key')));
  return FileLog.open({
    folder: join(folder, 'log'),
    signer,
    nowSeconds: () => Math.floor(nowMs() / 1000),
  });
}

/** A witness whose key and memory are in `folder`, made with it. Throws FabricError. */
export function openWitness(
  folder: string,
  name: string,
  logs: readonly NoteKey[],
  nowSeconds: () => number,
): { readonly witness: Witness; readonly vkey: string } {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const signer = noteSigner(name, 'witness', signingKey(join(folder, 'key')));
  const store = witnessFile(join(folder, 'cosigned'));
  return { witness: new Witness(logs, signer, store, nowSeconds), vkey: signer.vkey };
}

/** What an agent of this host knows, beside or without one; and what is seen now. */
export async function lookAtHost(
  settings: HostSettings,
  libraries: HostLibraries,
): Promise<{ readonly state: AgentState; readonly sight: Sight }> {
  const { probe, hands, clock } = portsOf(settings, libraries);
  const state = (await new FileStore(settings.folder).read()) ?? emptyState(settings.host);
  return { state, sight: await look(probe, hands.fm, hands.gateway, clock) };
}

function portsOf(
  { host, folder, root, grade, version, vmProgram, daemon, clock, nowMs, randomHex }: HostSettings,
  { fm, driverView, isFmElsewhere }: HostLibraries,
): Omit<AgentOptions, 'log'> {
  const program = vmProgram === null ? null : new ProgramHands(programRunner(vmProgram));
  const vms = async () => (program === null ? [] : program.vms());
  const linux = new LinuxHost(linuxParts(root, daemon, driverView, vms));
  const guests = program ?? NO_GUESTS;
  return {
    host,
    grade,
    version,
    probe: isFmElsewhere ? withDaemonElsewhere(linux) : linux,
    hands: {
      fm,
      control: isFmElsewhere ? withoutDaemon(linux) : linux,
      vms: guests,
      guests,
      gateway: guests,
      nonce: randomHex,
    },
    store: new FileStore(folder),
    clock,
    nowMs,
    salt: randomHex,
  };
}

/** A daemon that is not seen is taken to run: its list tells what is active. */
function withDaemonElsewhere(probe: HostProbe): HostProbe {
  const daemon = { isRunning: true, instance: 'elsewhere', hasState: false };
  return { observe: async () => ({ ...(await probe.observe()), daemon }) };
}

function withoutDaemon(control: HostControl): HostControl {
  const refuse = async () => {
    const message = 'Fabric Manager runs elsewhere: start and stop it there';
    throw new FabricError('host-refused', message);
  };
  return {
    reset: (bdf) => control.reset(bdf),
    bind: (bdf, driver) => control.bind(bdf, driver),
    startDaemon: refuse,
    stopDaemon: refuse,
  };
}
