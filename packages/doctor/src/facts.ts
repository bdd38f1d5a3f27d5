import type { ConfidentialSettings } from '@bridgekeeper/device';
import type { Settings } from '@bridgekeeper/server';
import type { EngineCommand } from './command/engine-command.ts';
import type { Version } from './version.ts';

/** What was observed and where it came from; or that it is not known, and why. */
export type Observed<T> =
  | { readonly known: true; readonly value: T; readonly from: string }
  | { readonly known: false; readonly reason: string };

/** Families of GPUs that a source says something about. */
export type GpuKind = 'h100' | 'h200' | 'b200' | 'b300' | 'rtx-pro-6000' | 'other';

/** A yes or no of one GPU, by its NVML index. */
export interface GpuFlag {
  readonly index: number;
  readonly on: boolean;
}

/** Everything a rule may ask for. */
export interface FactValues {
  /** Whether confidential computing is on for the GPUs. */
  readonly confidential: boolean;
  /** What the driver says of confidential computing in detail. */
  readonly confidentialSettings: ConfidentialSettings;
  /** Whether the GPUs take work. */
  readonly gpusReady: boolean;
  /** NVML's threshold at which keys rotate, in its own measure. */
  readonly keyRotationAttackerAdvantage: number;
  readonly driverVersion: Version;
  readonly gpuKind: GpuKind;
  readonly gpuCount: number;
  readonly persistence: readonly GpuFlag[];
  readonly mig: readonly GpuFlag[];
  /** Processes with a compute context, by GPU; without the inspected one and its descendants. */
  readonly gpuProcesses: readonly { readonly index: number; readonly pids: readonly number[] }[];
  /** Whether this guest is a confidential VM. */
  readonly guest: 'tdx' | 'sev-snp' | 'plain';
  readonly cpuFlags: ReadonlySet<string>;
  /** How much memory a process may lock; Infinity: no limit. */
  readonly memlockBytes: number;
  readonly transparentHugepages: 'always' | 'madvise' | 'never';
  readonly swapBytes: number;
  /** What a process may use: the machine's memory, or its control group's limit. */
  readonly memoryBytes: number;
  readonly engine: EngineCommand;
  readonly engineVersion: Version;
  /** Bridgekeeper's own settings. */
  readonly settings: Settings;
}

export type FactName = keyof FactValues;
export type Facts = { readonly [Name in FactName]: Observed<FactValues[Name]> };

/** How facts are called in a sentence. */
export const FACT_TITLES: Readonly<Record<FactName, string>> = {
  confidential: 'whether confidential computing is on',
  confidentialSettings: 'the driver’s confidential computing settings',
  gpusReady: 'the ready state of the GPUs',
  keyRotationAttackerAdvantage: 'the key rotation threshold',
  driverVersion: 'the driver’s version',
  gpuKind: 'the kind of GPU',
  gpuCount: 'the number of GPUs',
  persistence: 'persistence mode',
  mig: 'MIG mode',
  gpuProcesses: 'the processes on the GPUs',
  guest: 'whether this guest is a confidential VM',
  cpuFlags: 'the CPU’s features',
  memlockBytes: 'the limit of locked memory',
  transparentHugepages: 'transparent huge pages',
  swapBytes: 'swap',
  memoryBytes: 'the memory at hand',
  engine: 'the engine’s command',
  engineVersion: 'the engine’s version',
  settings: 'Bridgekeeper’s settings',
};

export function known<T>(value: T, from: string): Observed<T> {
  return { known: true, value, from };
}

export function unknown(reason: string): { readonly known: false; readonly reason: string } {
  return { known: false, reason };
}

/** The kind of a GPU by the name its driver gives. */
export function gpuKindOf(name: string): GpuKind {
  if (/\bRTX PRO 6000\b/i.test(name)) return 'rtx-pro-6000';
  const family = /\b[GH]?(H100|H200|B200|B300)\b/.exec(name)?.[1];
  return family === undefined ? 'other' : (family.toLowerCase() as GpuKind);
}
