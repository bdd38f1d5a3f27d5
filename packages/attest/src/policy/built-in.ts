import { POLICY_VERSION, type Policy, policySchema } from './policy.ts';

const LAPSED_SIGNER = {
  kind: 'rim.expiry',
  codes: ['certificate-expired'],
  because:
    'signers of many genuine reference documents have lapsed since; what they signed in their ' +
    'time is what the vendor measured',
} as const;

const withoutReference = (kind: string) =>
  ({
    kind,
    codes: ['reference-missing'],
    because: 'no reference document is at hand for this firmware, so it is not compared',
  }) as const;

const REQUIRED_OF_DEVICES = ['chain', 'signature', 'identity'];
const REQUIRED_OF_LIVE_DEVICES = [
  ...REQUIRED_OF_DEVICES,
  'expiry',
  'revocation',
  'nonce',
  'measurements',
];

const all = (family: string, checks: readonly string[]) =>
  Object.fromEntries(checks.map((check) => [`${family}.${check}`, {}]));

/** What a CPU has to show under one TEE. */
const under = (tee: 'tdx' | 'sev-snp', checks: readonly string[]) =>
  Object.fromEntries(checks.map((check) => [`cpu.${check}`, { tee }]));

const ON_TRUST = { believe: ['guest-observed'] } as const;
/** Seconds. A report is made for each request, so that only clocks can make it look old. */
const REPORT_AGE_MAX = 300;

/** Is this evidence genuine, and does nothing in it speak against the machine? For files. */
const EVIDENCE_POLICY = policySchema.parse({
  version: POLICY_VERSION,
  name: 'evidence',
  purpose:
    'Whether evidence of a CPU, GPU or switch is genuine and nothing in it speaks against the ' +
    'machine. It may be old, and firmware is compared only where references are at hand',
  minimum: [{ cpu: 1 }, { gpu: 1 }, { switch: 1 }],
  require: {
    gpu: all('gpu', REQUIRED_OF_DEVICES),
    switch: all('switch', REQUIRED_OF_DEVICES),
    cpu: all('cpu', ['chain', 'quote', 'debug']),
    rim: all('rim', ['chain', 'signature']),
    token: all('token', ['signature', 'issuer', 'parts', 'result']),
    server: all('server', ['tee', 'binding']),
    receipt: all('receipt', ['signature']),
  },
  tolerate: [
    LAPSED_SIGNER,
    ...['gpu.measurements', 'switch.measurements'].map(withoutReference),
    {
      kind: 'hgx.set',
      codes: ['set-incomplete'],
      because: 'a part of a board is judged by itself; how the board is wired is then unknown',
    },
  ],
});

/** May secrets be sent to this server now? For addresses. */
const SERVICE_POLICY = policySchema.parse({
  version: POLICY_VERSION,
  name: 'service',
  purpose:
    'Whether secrets may be sent to a server now: a TEE with current firmware and the software ' +
    'that is expected, a fresh quote that binds this connection, and every GPU that it serves ' +
    'on, in confidential mode and running what its vendor released',
  minimum: [{ server: 1, cpu: 1, gpu: 'as-served' }],
  atMost: { server: 1, cpu: 1 },
  require: {
    server: {
      ...all('server', ['tee', 'binding', 'nonce', 'tls']),
      'server.issuedAt': { atMost: REPORT_AGE_MAX, ...ON_TRUST },
      'server.gpus': ON_TRUST,
      'server.software': ON_TRUST,
      'server.model': ON_TRUST,
      'server.configuration': ON_TRUST,
    },
    cpu: {
      ...all('cpu', ['tee', 'chain', 'expiry', 'revocation', 'quote', 'tcb', 'debug']),
      ...all('cpu', ['migration', 'reportData']),
      // Any program can be measured. Which one it is to be, only its user can say (`pinPolicy`).
      'cpu.launch': { oneOf: [] },
      'cpu.measurements': { includes: [] },
      ...under('tdx', ['collateral', 'collateralExpiry', 'qe', 'attributes', 'xfam', 'teeTcbSvn']),
      'cpu.qeIdentity': { tee: 'tdx', atLeast: 2 },
      ...under('sev-snp', ['committedTcb', 'launchTcb', 'platform']),
      // Below it, software of a lesser privilege answers for the guest.
      'cpu.vmpl': { tee: 'sev-snp', oneOf: [0] },
      'cpu.guestPolicy': { tee: 'sev-snp', includes: ['debug=0', 'migration=0', 'cxl=0'] },
    },
    machine: {
      ...all('devices', ['distinct', 'nonce']),
      'devices.confidential': { oneOf: [true], ...ON_TRUST },
    },
    gpu: all('gpu', [...REQUIRED_OF_LIVE_DEVICES, 'firmware', 'mode', 'driver', 'vbios']),
    switch: all('switch', [...REQUIRED_OF_LIVE_DEVICES, 'lock']),
    rim: all('rim', ['chain', 'signature', 'revocation']),
    receipt: all('receipt', ['signature']),
  },
  tolerate: [LAPSED_SIGNER],
});

/** Is this reference of the vendor? It says nothing of any machine. */
const REFERENCE_POLICY = policySchema.parse({
  version: POLICY_VERSION,
  name: 'reference',
  purpose: 'Whether reference measurements are those of the vendor; it is about no machine',
  minimum: [{ rim: 1 }],
  require: { rim: all('rim', ['chain', 'signature']) },
  tolerate: [LAPSED_SIGNER],
});

/** Did NVIDIA's service say so? What it says is trusted, not checked. */
const TOKEN_POLICY = policySchema.parse({
  version: POLICY_VERSION,
  name: 'token',
  purpose: 'Whether a remote service vouches for devices now; what it says is taken on trust',
  minimum: [{ token: 1 }],
  require: {
    token: all('token', ['signature', 'issuer', 'parts', 'nonce', 'expiry', 'debug', 'result']),
  },
});

/** Policies that need no file, by name. */
export const BUILT_IN_POLICIES: ReadonlyMap<string, Policy> = new Map(
  [EVIDENCE_POLICY, SERVICE_POLICY, REFERENCE_POLICY, TOKEN_POLICY].map((policy) => [
    policy.name,
    policy,
  ]),
);
