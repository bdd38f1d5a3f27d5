import { z } from 'zod';
import { count } from '../core/json-shape.ts';

const shortText = z.string().max(256);

/** What NVLink health there is to know: true, false, or null where the driver does not say. */
const flag = z.boolean().nullable();

const fabricSchema = z.strictObject({
  state: z.enum(['unsupported', 'not-started', 'in-progress', 'completed', 'unknown']),
  clusterUuid: shortText,
  cliqueId: count,
  /** An NVML status; 0: the probe succeeded. */
  status: count,
  summary: z.enum(['healthy', 'unhealthy', 'limited', 'unknown']).nullable(),
  isDegraded: flag,
  isRouteRecovering: flag,
  isRouteUnhealthy: flag,
  isAccessTimingOut: flag,
  isPartitionAssigned: flag,
  /** As nvml.h counts them: 1 none, 4 no partition; 0: not said. */
  incorrectConfiguration: count,
});

/** What NVML told the guest: nobody signed it. */
export const observationSchema = z.strictObject({
  driverVersion: shortText.nullable(),
  /** null: the driver does not say. */
  confidential: z
    .strictObject({
      environment: z.enum(['unavailable', 'simulation', 'production', 'unknown']),
      isOn: z.boolean(),
      isDevTools: z.boolean(),
      multiGpuMode: z.enum(['none', 'protected-pcie', 'nvlink-encryption', 'unknown']).nullable(),
    })
    .nullable(),
  /** Whether the GPUs take work. */
  areGpusReady: z.boolean().nullable(),
  /** What an attacker may learn before keys rotate, in NVML's measure: 64 bits in decimal. */
  keyRotationThreshold: z
    .string()
    .regex(/^\d{1,20}$/)
    .nullable(),
  gpus: z
    .array(
      z.strictObject({
        index: count,
        name: shortText.nullable(),
        uuid: shortText.nullable(),
        fabric: fabricSchema.nullable(),
        /** Of the tables by which its NVLink addresses lead; absent: the driver does not tell. */
        remapTableSha256: z
          .string()
          .regex(/^[0-9a-f]{64}$/)
          .optional(),
        /** Absent: the driver does not tell. */
        isNvlinkEncrypted: z.boolean().optional(),
      }),
    )
    .max(64),
  /** What could not be read, and why. */
  gaps: z.array(z.string().max(500)).max(200),
});

export type MachineObservation = Readonly<z.output<typeof observationSchema>>;
export type FabricObservation = Readonly<z.output<typeof fabricSchema>>;

/** The observation as short facts, for readers and policies. */
export function describeObservation(observation: MachineObservation): string[] {
  const { driverVersion, confidential, areGpusReady, gpus } = observation;
  const facts: string[] = [];
  if (driverVersion !== null) facts.push(`driver ${driverVersion}`);
  if (confidential !== null) {
    const { isOn, environment, isDevTools, multiGpuMode } = confidential;
    facts.push(`confidential computing ${isOn ? 'on' : 'off'} (${environment})`);
    if (isDevTools) facts.push('developer tools on');
    if (multiGpuMode !== null) facts.push(`multi-GPU mode ${multiGpuMode}`);
  }
  if (areGpusReady !== null) facts.push(`GPUs ${areGpusReady ? 'ready' : 'not ready'}`);
  for (const { index, fabric } of gpus) {
    if (fabric === null || fabric.state === 'unsupported') continue;
    const partition = fabric.isPartitionAssigned === true ? ', partition assigned' : '';
    facts.push(`GPU-${index} fabric ${fabric.state} (${fabric.summary ?? 'unknown'}${partition})`);
  }
  for (const { index, remapTableSha256 } of gpus) {
    if (remapTableSha256 === undefined) continue;
    facts.push(`GPU-${index} NVLink remap table ${remapTableSha256.slice(0, 16)}`);
  }
  for (const { index, isNvlinkEncrypted } of gpus) {
    if (isNvlinkEncrypted === undefined) continue;
    facts.push(`GPU-${index} NVLink encryption ${isNvlinkEncrypted ? 'on' : 'off'}`);
  }
  return facts;
}
