import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { HostLibraries, HostSettings, OpenAgent } from '@bridgekeeper/fabric';
import { flag, number, oneOf, text, UsageError, type Values } from '@bridgekeeper/server/settings';
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
    'Fabric Manager: ip:port, a socket’s path, or cid:port',
  ),
  vmProgram: flag(text('file'), undefined, 'the program that starts and lists VMs here'),
  fmUnit: flag(text('name'), 'nvidia-fabricmanager', 'its unit of systemd'),
  fmConfig: flag(
    text('file'),
    '/usr/share/nvidia/nvswitch/fabricmanager.cfg',
    'its configuration, in which the mode of its next start is set',
  ),
  fmState: flag(text('file'), '/tmp/fabricmanager.state', 'the state that it can resume from'),
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
export async function openHostAgent(values: HostValues): Promise<OpenAgent> {
  const { openAgent } = await import('@bridgekeeper/fabric');
  const settings = await hostSettings(values);
  return openAgent(settings, await hostLibraries(values));
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

/** NVIDIA's libraries are opened with the first call. Throws UsageError. */
export async function hostLibraries({ fm }: HostValues): Promise<HostLibraries> {
  const { daemonVersion, nvfmManager, nvmlDriverView, readFmAddress } = await import(
    '@bridgekeeper/fabric'
  );
  const { HOST_CLOCK } = await import('@bridgekeeper/server/host-clock');
  const address = readFmAddress(fm);
  if (address === null) {
    throw new UsageError('bad-value', `--fm: ${fm} is no ip:port, path or cid:port`);
  }
  return {
    fm: nvfmManager({ address, after: HOST_CLOCK.after, version: daemonVersion }),
    driverView: nvmlDriverView(),
  };
}
