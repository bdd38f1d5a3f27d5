import { CERTIFICATE, NVML, type Nvml, OutCell, REPORT } from '@bridgekeeper/native';
import { type Bytes, equalBytes, toBase64, toHex } from '../../core/bytes.ts';
import { AttestError, demand } from '../../core/errors.ts';
import { demandSuccess, devicesOf, type NvmlDevice, openNvml, textOf } from './library.ts';

/** nvmlDeviceArchitecture_t, by the names that NVIDIA's SDK gives evidence. */
const ARCHITECTURES: ReadonlyMap<number, string> = new Map([
  [9, 'HOPPER'],
  [10, 'BLACKWELL'],
]);
/** Where a report repeats the nonce. */
const NONCE_IN_REPORT = 4;

/** One GPU's evidence as NVIDIA's SDK serialises it. */
export interface GpuEvidenceEntry {
  readonly arch: string;
  /** Base64 of the signed report. */
  readonly evidence: string;
  /** Base64 of the PEM chain of the key that signed it. */
  readonly certificate: string;
  readonly nonce: string;
  readonly driver_version: string | null;
  readonly vbios_version: string | null;
  readonly version: '1.0';
}

/** Two processes that ask one GPU at once can get each other's report: then it is asked again. */
const ATTEMPTS_MAX = 4;

/**
 * Asks every GPU of this guest for a report over `nonce` (32 bytes), one after the other, on a pool
 * thread: it takes a second or so each. Throws AttestError 'not-available' with what NVML answered,
 * and 'nonce-mismatch' for a GPU that never answered for this nonce.
 */
export async function collectGpuEvidence(
  nonce: Bytes,
  options: { libraryPath?: string } = {},
): Promise<GpuEvidenceEntry[]> {
  demand(nonce.length === REPORT.nonceBytes, 'malformed', 'a nonce for GPUs has 32 bytes');
  const nvml = openNvml(options.libraryPath);
  try {
    const driver = textOf(nvml, 'nvmlSystemGetDriverVersion');
    const entries: GpuEvidenceEntry[] = [];
    for (const device of devicesOf(nvml)) {
      const vbios = textOf(nvml, 'nvmlDeviceGetVbiosVersion', device.handle);
      entries.push({
        arch: architectureOf(nvml, device),
        evidence: toBase64(await reportOf(nvml, device, nonce)),
        certificate: toBase64(await chainOf(nvml, device)),
        nonce: toHex(nonce),
        driver_version: driver,
        vbios_version: vbios,
        version: '1.0',
      });
    }
    return entries;
  } finally {
    nvml.close();
  }
}

function architectureOf(nvml: Nvml, { index, handle }: NvmlDevice): string {
  const cell = new OutCell();
  demandSuccess(
    'nvmlDeviceGetArchitecture',
    nvml.call('nvmlDeviceGetArchitecture', handle, cell.bytes),
  );
  const number = cell.i32;
  const name = ARCHITECTURES.get(number);
  demand(
    name !== undefined,
    'not-available',
    `GPU ${index} has architecture ${number}, no evidence`,
  );
  return name;
}

async function reportOf(nvml: Nvml, device: NvmlDevice, nonce: Bytes): Promise<Bytes> {
  const name = 'nvmlDeviceGetConfComputeGpuAttestationReport';
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const struct = new Uint8Array(REPORT.bytes);
    struct.set(nonce, REPORT.nonce);
    const status = await nvml.callOnPool(name, device.handle, struct);
    if (status === NVML.NOT_SUPPORTED) {
      const message = `GPU ${device.index} gives no reports: confidential computing is off`;
      throw new AttestError('not-available', message);
    }
    demandSuccess(name, status);
    const report = sized(struct, REPORT.reportBytes, REPORT.report, REPORT.reportBytesMax);
    const from = NONCE_IN_REPORT;
    if (equalBytes(report.subarray(from, from + nonce.length), nonce)) return report;
  }
  const message = `GPU ${device.index} answered ${ATTEMPTS_MAX} times for another nonce`;
  throw new AttestError('nonce-mismatch', message);
}

async function chainOf(nvml: Nvml, { handle }: NvmlDevice): Promise<Bytes> {
  const name = 'nvmlDeviceGetConfComputeGpuCertificate';
  const struct = new Uint8Array(CERTIFICATE.bytes);
  demandSuccess(name, await nvml.callOnPool(name, handle, struct));
  const { attestationChainBytes, attestationChain, attestationChainBytesMax } = CERTIFICATE;
  return sized(struct, attestationChainBytes, attestationChain, attestationChainBytesMax);
}

/** The part of a structure whose length another field of it gives. */
function sized(struct: Bytes, lengthAt: number, from: number, bytesMax: number): Bytes {
  const length = new DataView(struct.buffer).getUint32(lengthAt, true);
  demand(
    length > 0 && length <= bytesMax,
    'malformed',
    `NVML gave ${length} bytes where 1 to ${bytesMax} fit`,
  );
  return struct.slice(from, from + length);
}
