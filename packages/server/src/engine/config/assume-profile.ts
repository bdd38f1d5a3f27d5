import {
  type Profile,
  parseProfile,
  type ReferenceProfileName,
  referenceProfile,
} from '@bridgekeeper/bridge';
import type { DeviceKind } from '@bridgekeeper/device';

/** A file that may hold this machine's profile; text is null when there is no such file. */
export interface MeasuredProfileFile {
  readonly path: string;
  readonly text: string | null;
}

/** What is known of the machine, and how to read what was measured on it. */
export interface MachineFacts {
  readonly deviceKind: DeviceKind;
  /** As the driver names it: `NVIDIA H100 80GB HBM3`. null: not known. */
  readonly gpuName: string | null;
  readonly gpuUuid: string | null;
  /** Whether confidential computing is on. null: not known. */
  readonly confidential: boolean | null;
  /** May throw: what cannot be read becomes a warning. */
  readonly readProfile: (gpuUuid: string) => MeasuredProfileFile;
}

/** A profile to plan by, and why. It describes the machine; it is not imposed on it. */
export interface AssumedProfile {
  /** null: no bridge lies between host and device. */
  readonly profile: Profile | null;
  readonly reason: string;
  /** What the operator should know or do. */
  readonly warning?: string;
}

/**
 * Which profile describes the bridge this process stands on: the one measured here, else the
 * reference for the GPU's family and CC state, else the nearest family's.
 */
export function assumeProfile(machine: MachineFacts): AssumedProfile {
  if (machine.deviceKind !== 'cuda') {
    const reason = `the ${machine.deviceKind} device has no bridge of its own`;
    return { profile: null, reason };
  }
  const measured = findMeasured(machine);
  if (measured.profile !== undefined) {
    return { profile: measured.profile, reason: `measured on this machine: ${measured.path}` };
  }
  const { profile, reason, doubts } = chooseReference(machine);
  const warnings = [measured.fault, ...doubts, advice(measured.path)];
  return { profile, reason, warning: warnings.filter((text) => text !== undefined).join('; ') };
}

/** What looking for a measured profile came to. */
interface Search {
  readonly profile?: Profile;
  readonly path?: string;
  readonly fault?: string;
}

function findMeasured({ gpuUuid, confidential, readProfile }: MachineFacts): Search {
  if (gpuUuid === null) return {};
  let path: string | undefined;
  try {
    const file = readProfile(gpuUuid);
    path = file.path;
    if (file.text === null) return { path };
    const profile = parseProfile(JSON.parse(file.text));
    if (confidential === null || profile.confidential === confidential) return { profile, path };
    const now = `confidential computing is ${onOrOff(confidential)} now`;
    const then = `${path} was measured with it ${onOrOff(profile.confidential)}`;
    return { path, fault: `${now}: ${then}, so it is left out` };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const fault = `${path ?? 'the measured profile'} cannot be used: ${reason}`;
    return path === undefined ? { fault } : { path, fault };
  }
}

const onOrOff = (on: boolean) => (on ? 'on' : 'off');

/** GPUs that share a bridge, and the published profiles that describe it best. */
interface Family {
  readonly pattern: RegExp;
  readonly confidential: Fit;
  readonly native: Fit;
}

interface Fit {
  readonly name: ReferenceProfileName;
  /** Whether it was published for this family itself. */
  readonly isOwn: boolean;
}

const own = (name: ReferenceProfileName): Fit => ({ name, isOwn: true });
const near = (name: ReferenceProfileName): Fit => ({ name, isOwn: false });

const FAMILIES: readonly Family[] = [
  { pattern: /\bB300\b/, confidential: own('b300-cc'), native: own('b300-native') },
  { pattern: /\bB200\b/, confidential: own('b200-cc'), native: near('b300-native') },
  { pattern: /\bGB[23]00\b/, confidential: near('b300-cc'), native: near('b300-native') },
  { pattern: /\bH100\b/, confidential: own('h100-cc'), native: own('h100-native') },
  {
    pattern: /\b(H200|H800|H20|GH200)\b/,
    confidential: near('h100-cc'),
    native: near('h100-native'),
  },
  // Its toll was measured beside the B300's (arXiv 2606.23969); its memory is nearer an H100's.
  {
    pattern: /\bRTX PRO \d+ Blackwell\b/,
    confidential: near('b300-cc'),
    native: near('h100-native'),
  },
];

/** With confidential computing, the largest toll published: better prepared than surprised. */
const UNKNOWN_FAMILY: Omit<Family, 'pattern'> = {
  confidential: near('b300-cc'),
  native: near('h100-native'),
};

function chooseReference({ gpuName, confidential }: MachineFacts) {
  const gpu = gpuName ?? 'a GPU without a name';
  const family = FAMILIES.find(({ pattern }) => pattern.test(gpu)) ?? UNKNOWN_FAMILY;
  const doubts: string[] = [];
  // A toll that was not planned for costs published engines 13 to 40 %; one that was planned for
  // in vain makes bursts longer, within their limit.
  const isConfidential = confidential ?? true;
  if (confidential === null) {
    doubts.push('whether confidential computing is on is not known, so it is taken to be on');
  }
  const { name, isOwn } = isConfidential ? family.confidential : family.native;
  const state = `confidential computing ${onOrOff(isConfidential)}`;
  if (!isOwn) doubts.push(`nothing was published for ${gpu} with ${state}: ${name} is the nearest`);
  const fit = isOwn ? 'published for' : 'nearest to';
  const reason = `reference profile ${name}, ${fit} ${gpu} with ${state}`;
  return { profile: referenceProfile(name), reason, doubts };
}

function advice(path: string | undefined): string {
  const fact = 'nothing was measured on this machine, and published tolls differ by 100x';
  return path === undefined ? fact : `${fact}: a profile measured here belongs in ${path}`;
}
