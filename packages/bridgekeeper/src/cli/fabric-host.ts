import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import type { HostLibraries, HostSettings, OpenAgent } from '@bridgekeeper/fabric';
import { flag, oneOf, text, UsageError, type Values } from '@bridgekeeper/server/settings';
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
};

type HostValues = Values<typeof HOST_FLAGS>;

export async function hostSettings(values: HostValues): Promise<HostSettings> {
  const { SystemClock } = await import('@bridgekeeper/device');
  const { HOST_CLOCK } = await import('@bridgekeeper/server/host-clock');
  const { state, host, grade, vmProgram, fmUnit, fmConfig, fmState } = values;
  return {
    host: host ?? hostname(),
    folder: state,
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
