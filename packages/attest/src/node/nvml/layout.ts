/** nvml.h: what we ask of it, with the sizes and offsets that a compiler gives its structures. */

/** The part of NVML we use. Each name may be missing: drivers gained them one by one. */
export const NVML_SIGNATURES = {
  nvmlInit_v2: [],
  nvmlShutdown: [],
  nvmlSystemGetDriverVersion: ['pointer', 'u32'],
  nvmlSystemGetConfComputeSettings: ['pointer'],
  nvmlSystemGetConfComputeState: ['pointer'],
  nvmlSystemGetConfComputeGpusReadyState: ['pointer'],
  nvmlSystemGetConfComputeKeyRotationThresholdInfo: ['pointer'],
  nvmlDeviceGetCount_v2: ['pointer'],
  nvmlDeviceGetHandleByIndex_v2: ['u32', 'pointer'],
  nvmlDeviceGetName: ['u64', 'pointer', 'u32'],
  nvmlDeviceGetUUID: ['u64', 'pointer', 'u32'],
  nvmlDeviceGetVbiosVersion: ['u64', 'pointer', 'u32'],
  nvmlDeviceGetArchitecture: ['u64', 'pointer'],
  nvmlDeviceGetGpuFabricInfoV: ['u64', 'pointer'],
  nvmlDeviceGetConfComputeGpuCertificate: ['u64', 'pointer'],
  nvmlDeviceGetConfComputeGpuAttestationReport: ['u64', 'pointer'],
} as const satisfies Readonly<Record<string, readonly ('pointer' | 'u32' | 'u64')[]>>;
export type NvmlFunction = keyof typeof NVML_SIGNATURES;

/** nvmlReturn_t. */
export const NVML_STATUS = {
  success: 0,
  notSupported: 3,
  functionNotFound: 13,
  argumentVersionMismatch: 25,
} as const;

/** Room for any text: the longest that nvml.h names is 96 bytes. */
export const TEXT_BYTES = 96;

/** nvmlSystemConfComputeSettings_v1_t */
export const SETTINGS = {
  bytes: 20,
  version: 0x01_00_00_14,
  environment: 4,
  ccFeature: 8,
  devTools: 12,
  multiGpuMode: 16,
} as const;

/** nvmlConfComputeSystemState_t, which older drivers have. */
export const STATE = { bytes: 12, environment: 0, ccFeature: 4, devTools: 8 } as const;

/** nvmlConfComputeGetKeyRotationThresholdInfo_v1_t */
export const KEY_ROTATION = { bytes: 16, version: 0x01_00_00_10, threshold: 8 } as const;

/** nvmlConfComputeGpuCertificate_t */
export const CERTIFICATE = {
  bytes: 9224,
  attestationChainBytes: 4,
  attestationChain: 4104,
  attestationChainBytesMax: 5120,
} as const;

/** nvmlConfComputeGpuAttestationReport_t */
export const REPORT = {
  bytes: 12332,
  reportBytes: 4,
  nonce: 12,
  nonceBytes: 32,
  report: 44,
  reportBytesMax: 8192,
  /** Where the report itself repeats the nonce. */
  nonceInReport: 4,
} as const;

/** nvmlGpuFabricInfo_v3_t; the second version is the same without the summary. */
export const FABRIC = {
  v3: { bytes: 40, version: 0x03_00_00_28 },
  v2: { bytes: 36, version: 0x02_00_00_24 },
  clusterUuid: 4,
  clusterUuidBytes: 16,
  status: 20,
  cliqueId: 24,
  state: 28,
  healthMask: 32,
  summary: 36,
} as const;

/** nvmlDeviceArchitecture_t, by the names that NVIDIA's SDK gives evidence. */
export const ARCHITECTURES: ReadonlyMap<number, string> = new Map([
  [9, 'HOPPER'],
  [10, 'BLACKWELL'],
]);
