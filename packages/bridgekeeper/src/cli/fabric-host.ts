import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { HostLibraries, HostSettings, OpenAgent } from '@bridgekeeper/fabric';
import { flag, number, oneOf, text, UsageError, type Values } from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';
import { readVersion } from '../version.ts';
import { FABRIC_FOLDER } from './fabric-folder.ts';

/** What every command takes that looks at a host or changes it. */
export const HOST_FLAGS = {
  state: FABRIC_FOLDER,
  host: flag(text('name'), undefined, 'this host’s name in its log; default: that of the machine'),
  grade: flag(
    oneOf('host', 'service-vm', 'guest'),
    'host',
    'where this agent runs, which is who vouches for its log',
  ),
  fm: flag(
    text('address'),
    '127.0.0.1:6666',
    'Fabric Manager: ip:port, a socket’s path, or cid:port; nmx:host:port for a rack’s NMX-C',
  ),
  fmVersion: flag(text('version'), undefined, 'its version, where it runs elsewhere'),
  vmProgram: flag(text('file'), undefined, 'the program that starts and lists VMs here'),
  fmUnit: flag(text('name'), 'nvidia-fabricmanager', 'its unit of systemd'),
  fmConfig: flag(
    text('file'),
    '/usr/share/nvidia/nvswitch/fabricmanager.cfg',
    'its configuration, in which the mode of its next start is set',
  ),
  fmState: flag(text('file'), '/tmp/fabricmanager.state', 'the state that it can resume from'),
  nmxProto: flag(text('file'), undefined, 'for NMX-C: NVIDIA’s nmx_c.proto, which you must have'),
  nmxRack: flag(text('file'), undefined, 'for NMX-C: places of GPUs by module, and partitions'),
  nmxComponent: flag(text('name'), 'fabricmanager', 'for NMX-C: what it calls Fabric Manager'),
  nmxCa: flag(text('file'), undefined, 'for NMX-C: who vouches for it, PEM'),
  nmxCert: flag(text('file'), undefined, 'for NMX-C: this agent’s certificate, PEM'),
  nmxKey: flag(text('file'), undefined, 'for NMX-C: its key, PEM'),
  root: flag(text('folder'), '/', 'where this host’s files are, as a container may have them'),
};

/** What commands take besides that are agents, or tell one what to do. */
export const ROUND = flag(number(0.01, 60), 2, 'seconds between two looks of the agent');

type HostValues = Values<typeof HOST_FLAGS>;

export async function hostSettings(values: HostValues): Promise<HostSettings> {
  const { SystemClock } = await import('@bridgekeeper/device/clock');
  const { HOST_CLOCK } = await import('@bridgekeeper/server/host-clock');
  const { state, host, grade, vmProgram, fmUnit, fmConfig, fmState, root } = values;
  return {
    host: host ?? hostname(),
    folder: state,
    root,
    grade,
    version: readVersion().version,
    vmProgram: vmProgram ?? null,
    daemon: { unit: fmUnit, configPath: fmConfig, statePath: fmState },
    // From the start of the machine, so that limits hold over a restart of the agent.
    clock: new SystemClock([0, 0]),
    nowMs: () => HOST_CLOCK.unixSeconds() * 1000,
    randomHex: () => randomBytes(32).toString('hex'),
  };
}

/** Makes this process its host's agent. Throws FabricError. */
export async function openHostAgent(values: HostValues, io: CliIo): Promise<OpenAgent> {
  const { openAgent } = await import('@bridgekeeper/fabric');
  const settings = await hostSettings(values);
  const libraries = await hostLibraries(values);
  const opened = await openAgent(settings, libraries);
  const close = () => {
    opened.close();
    endIfStuck(libraries, io);
  };
  return { ...opened, close };
}

/** All is on the disk by now; a process whose library does not return would never end. */
export function endIfStuck({ isStuck }: FabricLibraries, io: CliIo): void {
  if (!isStuck()) return;
  const why = 'a call of Fabric Manager’s library has not returned';
  io.err(`bridgekeeper: ${why}: this process ends by SIGKILL [fm-unanswered]`);
  process.kill(process.pid, 'SIGKILL');
}

/**
 * Writes what this VM's CPU signs over the log's key beside the log: what makes the log more than
 * an operator's word. Resolves to what to tell, null: there is nothing to tell. Throws FabricError.
 */
export async function quoteLogKey(
  { grade, state }: HostValues,
  vkey: string,
): Promise<string | null> {
  if (grade === 'host') return null;
  const { logKeyReportData } = await import('@bridgekeeper/fabric');
  const { seekCpuEvidence } = await import('@bridgekeeper/attest/node');
  const request = { entry: `fabric-log-${process.pid}` };
  const { found, reason } = await seekCpuEvidence(logKeyReportData(vkey), {}, request);
  if (found === null) return `--grade ${grade}: nothing quotes the log’s key: ${reason}`;
  const { evidence, eventLog, vmConfig } = found;
  const hex = Buffer.from(evidence).toString('hex');
  const isMeasured = eventLog !== null;
  const document = JSON.stringify({ quote: hex, event_log: eventLog, vm_config: vmConfig });
  const path = join(state, 'log', isMeasured ? 'quote.json' : 'quote.bin');
  writeFileSync(path, isMeasured ? document : evidence);
  return `the quote of the log’s key is in ${path}`;
}

export interface FabricLibraries extends HostLibraries {
  /** Whether a call has not returned in time, and not since. */
  readonly isStuck: () => boolean;
}

/** NVIDIA's libraries are opened with the first call. Throws UsageError. */
export async function hostLibraries(values: HostValues): Promise<FabricLibraries> {
  const { daemonVersion, nvfmManager, nvmlDriverView, readFmAddress } = await import(
    '@bridgekeeper/fabric'
  );
  const { HOST_CLOCK } = await import('@bridgekeeper/server/host-clock');
  const { fm } = values;
  const rack = /^nmx:(.+:\d{1,5})$/.exec(fm)?.[1];
  if (rack !== undefined) {
    const fm = await rackManager(rack, values);
    const isStuck = () => false;
    return { fm, driverView: nvmlDriverView(), isFmElsewhere: true, isStuck };
  }
  const address = readFmAddress(fm);
  if (address === null) {
    throw new UsageError('bad-value', `--fm: ${fm} is no ip:port, path, cid:port or nmx:host:port`);
  }
  const { fmVersion } = values;
  const version = fmVersion === undefined ? daemonVersion : async () => fmVersion;
  const isLocal = address.type === 'unix' || address.text.startsWith('127.');
  const manager = nvfmManager({ address, after: HOST_CLOCK.after, version });
  return {
    fm: manager,
    isStuck: manager.isStuck,
    driverView: nvmlDriverView(),
    isFmElsewhere: !isLocal,
  };
}

/** Throws UsageError. */
async function rackManager(
  address: string,
  { nmxProto, nmxRack, nmxComponent, nmxCa, nmxCert, nmxKey }: HostValues,
) {
  const { nmxManager, readRack } = await import('@bridgekeeper/fabric');
  const { HOST_CLOCK } = await import('@bridgekeeper/server/host-clock');
  if (nmxProto === undefined || nmxRack === undefined) {
    throw new UsageError('bad-combination', '--nmx-proto and --nmx-rack: give both for NMX-C');
  }
  const given = [nmxCa, nmxCert, nmxKey].filter((path) => path !== undefined).length;
  if (given !== 0 && given !== 3) {
    throw new UsageError('bad-combination', '--nmx-ca, --nmx-cert, --nmx-key: give all three');
  }
  let text: string;
  try {
    text = readFileSync(nmxRack, 'utf8');
  } catch (cause) {
    const message = `--nmx-rack: ${nmxRack} cannot be read: ${(cause as Error).message}`;
    throw new UsageError('bad-file', message, { cause });
  }
  const rack = readRack(text);
  if (rack === null) {
    const advice = 'docs/fabric.md says what it must be';
    throw new UsageError('bad-file', `--nmx-rack: ${nmxRack} is no rack: ${advice}`);
  }
  return nmxManager({
    address,
    protoPath: nmxProto,
    rack,
    tls: given === 0 ? null : { ca: nmxCa!, cert: nmxCert!, key: nmxKey! },
    component: nmxComponent,
    after: HOST_CLOCK.after,
  });
}
