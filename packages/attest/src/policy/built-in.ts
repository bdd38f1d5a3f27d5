import { type Policy, policySchema } from './policy.ts';

const LAPSED_SIGNER = {
  kind: 'rim.expiry',
  codes: ['certificate-expired'],
  because:
    'signers of many genuine reference documents have lapsed since; what they signed in their ' +
    'time is what the vendor measured',
} as const;

const unreachable = (kind: string) =>
  ({
    kind,
    codes: ['revocation-unknown'],
    because: 'old evidence is judged without asking whether its keys are revoked by now',
  }) as const;

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

/** Is this evidence genuine, and does nothing in it speak against the machine? For files. */
const EVIDENCE_POLICY = policySchema.parse({
  version: 1,
  name: 'evidence',
  purpose:
    'Whether evidence is genuine and nothing in it speaks against the machine. It may be old, ' +
    'and firmware is compared only where references are at hand',
  require: {
    gpu: all('gpu', REQUIRED_OF_DEVICES),
    switch: all('switch', REQUIRED_OF_DEVICES),
    cpu: all('cpu', ['chain', 'quote', 'debug']),
    rim: all('rim', ['chain', 'signature']),
    token: all('token', ['signature', 'issuer', 'parts', 'result']),
  },
  tolerate: [
    LAPSED_SIGNER,
    ...['gpu.measurements', 'switch.measurements'].map(withoutReference),
    ...['gpu.revocation', 'switch.revocation', 'rim.revocation'].map(unreachable),
    {
      kind: 'hgx.set',
      codes: ['set-incomplete'],
      because: 'a part of a board is judged by itself; how the board is wired is then unknown',
    },
  ],
});

/** May secrets be sent to this server now? For addresses. */
const SERVICE_POLICY = policySchema.parse({
  version: 1,
  name: 'service',
  purpose:
    'Whether secrets may be sent to a server now: a TEE with current firmware and the software ' +
    'that is expected, a fresh quote that binds this connection, and GPUs, where there are any, ' +
    'that run what their vendor released',
  present: { server: { atLeast: 1, atMost: 1 }, cpu: { atLeast: 1, atMost: 1 } },
  require: {
    server: all('server', ['tee', 'binding', 'nonce', 'tls']),
    cpu: {
      ...all('cpu', ['chain', 'expiry', 'revocation', 'quote', 'tcb', 'debug', 'reportData']),
      // Any program can be measured. Which one it is to be, only its user can say (`pinSoftware`).
      'cpu.launch': { oneOf: [] },
      'cpu.measurements': { includes: [] },
    },
    gpu: all('gpu', REQUIRED_OF_LIVE_DEVICES),
    switch: all('switch', [...REQUIRED_OF_LIVE_DEVICES, 'lock']),
    rim: all('rim', ['chain', 'signature', 'version', 'revocation']),
  },
  tolerate: [LAPSED_SIGNER],
});

/** Policies that need no file, by name. */
export const BUILT_IN_POLICIES: ReadonlyMap<string, Policy> = new Map(
  [EVIDENCE_POLICY, SERVICE_POLICY].map((policy) => [policy.name, policy]),
);
