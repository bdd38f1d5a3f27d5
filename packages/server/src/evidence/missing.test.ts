import type { MachineObservation } from '@bridgekeeper/attest';
import type { GpuEvidenceEntry } from '@bridgekeeper/attest/node';
import { describe, expect, it } from 'vitest';
import { ApiError } from '../http/errors.ts';
import { Attestation } from './attestation.ts';
import { Reporter } from './reporter.ts';

type Confidential = NonNullable<MachineObservation['confidential']>;
const ON: Confidential = {
  environment: 'production',
  isOn: true,
  isDevTools: false,
  multiGpuMode: 'none',
};
const observing = (gpus: number, confidential: Confidential | null): MachineObservation => ({
  driverVersion: '590.12',
  confidential,
  areGpusReady: true,
  keyRotationThreshold: null,
  gpus: Array.from({ length: gpus }, (_, index) => ({
    index,
    name: null,
    uuid: null,
    fabric: null,
  })),
  gaps: [],
});
const ENTRY: GpuEvidenceEntry = {
  arch: 'HOPPER',
  nonce: '00'.repeat(32),
  evidence: 'AA==',
  certificate: 'AA==',
  driver_version: null,
  vbios_version: null,
  version: '1.0',
};

interface Case {
  readonly hasTee?: boolean;
  readonly device?: string;
  readonly evidence: number;
  readonly observed: MachineObservation | null;
}

/** A server's reports on a machine that answers so. */
function attestationOn({ hasTee = true, device = 'cuda', evidence, observed }: Case): Attestation {
  const absent = { found: null, reason: 'it is not there' } as const;
  const quote = {
    tee: 'tdx',
    evidence: Uint8Array.of(4),
    certificates: null,
    eventLog: null,
    vmConfig: null,
    info: null,
  } as const;
  const reporter = new Reporter({
    devices: async () => ({
      gpu: evidence === 0 ? absent : { found: Array(evidence).fill(ENTRY) as GpuEvidenceEntry[] },
      observation: observed === null ? absent : { found: observed },
    }),
    cpu: async () => (hasTee ? { found: quote } : absent),
  });
  const subject = {
    model: null,
    configuration: { device },
    tlsSpkiSha256: null,
    encryptionKeys: null,
    receipts: null,
  };
  const version = { version: '0.0.0', node: '20.19.0', commit: null, digest: null };
  return new Attestation({ reporter, subject, version, unixSeconds: () => 1 });
}

const ask = (machine: Case) => attestationOn(machine).report(undefined, 'statement');

describe('under a TEE, a report is refused', () => {
  it.each<[string, Case, string]>([
    ['that serves on a GPU without evidence', { evidence: 0, observed: null }, 'of 1 GPUs, 0 give'],
    [
      'that shows fewer GPUs than its driver',
      { evidence: 7, observed: observing(8, ON) },
      'of 8 GPUs, 7 give',
    ],
    [
      'on a GPU that it does not serve on',
      { device: 'cpu', evidence: 0, observed: observing(1, ON) },
      'of 1 GPUs, 0 give',
    ],
    [
      'whose GPUs are not confidential',
      { evidence: 1, observed: observing(1, { ...ON, isOn: false }) },
      'confidential computing is off',
    ],
    [
      'whose GPUs are confidential in name alone',
      { evidence: 1, observed: observing(1, { ...ON, environment: 'simulation' }) },
      'is simulated',
    ],
    [
      'whose GPUs are open to developers',
      { evidence: 1, observed: observing(1, { ...ON, isDevTools: true }) },
      'developer tools are on',
    ],
    [
      'whose driver does not say',
      { evidence: 1, observed: observing(1, null) },
      'the driver does not say',
    ],
  ])('%s', async (_, machine, message) => {
    const error = await ask(machine).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ code: 'evidence_incomplete', status: 503 });
    expect((error as ApiError).message).toContain(message);
  });
});

describe('a report is made', () => {
  it.each<[string, Case]>([
    ['of GPUs that are all proven', { evidence: 8, observed: observing(8, ON) }],
    ['on a CPU alone', { device: 'cpu', evidence: 0, observed: null }],
    ['without a TEE, which it says', { hasTee: false, evidence: 0, observed: null }],
  ])('%s', async (_, machine) => {
    expect(await ask(machine)).toMatchObject({ bridgekeeper: { statement: { issuedAt: 1 } } });
  });
});
