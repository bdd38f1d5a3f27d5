/** nvml.h: the sizes and offsets that a compiler gives its structures. */

/** Room for any text: the longest that nvml.h names is 96 bytes. */
export const TEXT_BYTES = 96;

/** The first word of a versioned structure: NVML_STRUCT_VERSION. */
function versionOf(bytes: number, version: number): number {
  return bytes | (version << 24);
}

/** nvmlSystemConfComputeSettings_v1_t */
export const SETTINGS = {
  bytes: 20,
  version: versionOf(20, 1),
  environment: 4,
  ccFeature: 8,
  devTools: 12,
  multiGpuMode: 16,
} as const;

/** nvmlConfComputeSystemState_t, which older drivers have: no version. */
export const STATE = { bytes: 12, environment: 0, ccFeature: 4, devTools: 8 } as const;

/** nvmlConfComputeGetKeyRotationThresholdInfo_v1_t */
export const KEY_ROTATION = { bytes: 16, version: versionOf(16, 1), threshold: 8 } as const;

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
} as const;

/** nvmlGpuFabricInfo_v3_t; the second version is the same without the summary. */
export const FABRIC = {
  v3: { bytes: 40, version: versionOf(40, 3) },
  v2: { bytes: 36, version: versionOf(36, 2) },
  clusterUuid: 4,
  clusterUuidBytes: 16,
  status: 20,
  cliqueId: 24,
  state: 28,
  healthMask: 32,
  summary: 36,
} as const;

/** nvmlPdi_t, from driver 580 on: the device's permanent identity. */
export const PDI = { bytes: 16, version: versionOf(16, 1), value: 8 } as const;

/**
 * nvmlNvlinkGetRemapTableInfo_v1_t: where NVLink addresses of a GPU lead, as 32-bit words. By
 * NVIDIA's reference: no driver at hand has it.
 */
export const REMAP_TABLE = {
  bytes: 4 + 2 * 4 * 4096 + 4,
  fabricAddresses: 4,
  guestAddresses: 4 + 4 * 4096,
  count: 4 + 2 * 4 * 4096,
  entriesMax: 4096,
} as const;

/** nvmlNvlinkLockRemapTable_v1_t: what locking came to. Locking holds until the GPU is reset. */
export const REMAP_LOCK = { bytes: 2, isLocked: 0, isDisabled: 1 } as const;

/** nvmlNvLinkInfo_v1_t */
export const NVLINK_INFO = { bytes: 8, version: versionOf(8, 1), isEncrypted: 4 } as const;

/**
 * nvmlNvlinkNvlePrivateInfo_v1_t: what one GPU says to the others before they are keyed. This one
 * and the next two are by NVIDIA's reference: no driver at hand has them.
 */
export const NVLE_INFO = { bytes: 260, data: 0, dataBytesMax: 256, dataBytes: 256 } as const;

/** nvmlNvlinkSetupNvleEncryptionKey_v1_t: one GPU's side of the key of a pair. */
export const NVLE_KEY = {
  bytes: 560,
  secret: 0,
  secretBytes: 32,
  localAlid: 32,
  remoteAlid: 36,
  localInfo: 40,
  remoteInfo: 300,
} as const;

/** nvmlNvlinkSetNvleReady_v1_t: its one member, with room for whatever width it has. */
export const NVLE_READY = { bytes: 4, isReady: 0 } as const;

/** nvmlProcessInfo_t */
export const PROCESS_INFO = { bytes: 24, pid: 0 } as const;

/** Room for a structure, its version written where it has one. */
export function structOf({ bytes, version }: { bytes: number; version?: number }): Buffer {
  const struct = Buffer.alloc(bytes);
  if (version !== undefined) struct.writeUInt32LE(version, 0);
  return struct;
}

/** By the values of nvml.h. */
export const ENVIRONMENTS = ['unavailable', 'simulation', 'production'] as const;
export const MULTI_GPU_MODES = ['none', 'protected-pcie', 'nvlink-encryption'] as const;
