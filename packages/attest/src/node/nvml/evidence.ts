import { type Bytes, equalBytes, toBase64, toHex } from '../../core/bytes.ts';
import { AttestError, demand } from '../../core/errors.ts';
import { ARCHITECTURES, CERTIFICATE, NVML_STATUS, REPORT } from './layout.ts';
import { type NvmlDevice, NvmlLibrary } from './library.ts';

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
  const nvml = new NvmlLibrary(options.libraryPath);
  try {
    const driver = nvml.text('nvmlSystemGetDriverVersion');
    const entries: GpuEvidenceEntry[] = [];
    for (const device of nvml.devices()) {
      const vbios = nvml.text('nvmlDeviceGetVbiosVersion', device.handle);
      entries.push({
        arch: architectureOf(nvml, device),
        evidence: toBase64(await reportOf(nvml, device, nonce)),
        certificate: toBase64(await chainOf(nvml, device)),
        nonce: toHex(nonce),
        driver_version: typeof driver === 'string' ? driver : null,
        vbios_version: typeof vbios === 'string' ? vbios : null,
        version: '1.0',
      });
    }
    return entries;
  } finally {
    nvml.close();
  }
}

function architectureOf(nvml: NvmlLibrary, { index, handle }: NvmlDevice): string {
  const cell = Buffer.alloc(8);
  nvml.demand('nvmlDeviceGetArchitecture', nvml.call('nvmlDeviceGetArchitecture', handle, cell));
  const number = cell.readUInt32LE(0);
  const name = ARCHITECTURES.get(number);
  demand(
    name !== undefined,
    'not-available',
    `GPU ${index} has architecture ${number}, no evidence`,
  );
  return name;
}

async function reportOf(nvml: NvmlLibrary, device: NvmlDevice, nonce: Bytes): Promise<Bytes> {
  const name = 'nvmlDeviceGetConfComputeGpuAttestationReport';
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const struct = new Uint8Array(REPORT.bytes);
    struct.set(nonce, REPORT.nonce);
    const status = await nvml.callAsync(name, device.handle, struct);
    if (status === NVML_STATUS.notSupported) {
      const message = `GPU ${device.index} gives no reports: confidential computing is off`;
      throw new AttestError('not-available', message);
    }
    nvml.demand(name, status);
    const report = sized(struct, REPORT.reportBytes, REPORT.report, REPORT.reportBytesMax);
    const from = REPORT.nonceInReport;
    if (equalBytes(report.subarray(from, from + nonce.length), nonce)) return report;
  }
  const message = `GPU ${device.index} answered ${ATTEMPTS_MAX} times for another nonce`;
  throw new AttestError('nonce-mismatch', message);
}

async function chainOf(nvml: NvmlLibrary, { handle }: NvmlDevice): Promise<Bytes> {
  const name = 'nvmlDeviceGetConfComputeGpuCertificate';
  const struct = new Uint8Array(CERTIFICATE.bytes);
  nvml.demand(name, await nvml.callAsync(name, handle, struct));
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
