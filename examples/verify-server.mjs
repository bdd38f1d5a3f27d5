// Asks a server for its attestation report with a fresh nonce, and verifies the report with the
// attest library alone. An ordinary machine has no TEE, so the verdict is REFUSED there: exit code 1.
//
//   node examples/verify-server.mjs [http://127.0.0.1:8000]

import { webcrypto } from 'node:crypto';
import { BUILT_IN_POLICIES, ChainCache, VENDOR_ROOTS, verifyEvidence } from '@bridgekeeper/attest';

const [url = 'http://127.0.0.1:8000'] = process.argv.slice(2);

// The nonce is ours, so that a report made earlier, or for somebody else, does not pass.
const nonce = webcrypto.getRandomValues(new Uint8Array(32));
const response = await fetch(
  `${url}/v1/attestation/report?nonce=${Buffer.from(nonce).toString('hex')}`,
);
if (!response.ok) throw new Error(`${url} answers with status ${response.status}`);
const bytes = new Uint8Array(await response.arrayBuffer());

// Time, trusted roots and services are arguments: the library has no clock and no network.
// null: no references, revocation or collateral are fetched, so nothing that needs them is verified.
const { claims, verdict } = await verifyEvidence({
  input: url,
  files: [{ name: 'the report', bytes, isNamed: true }],
  policy: BUILT_IN_POLICIES.get('service'),
  context: {
    nowMs: Date.now(),
    nonce,
    anchors: VENDOR_ROOTS,
    chains: new ChainCache(),
    references: null,
    revocation: null,
    collateral: null,
    tokenKeys: null,
  },
});

for (const { subject, kind, status, statement } of claims) {
  console.log(`${status.padEnd(10)}  ${subject} ${kind}: ${statement}`);
}
const isVerified = verdict.result === 'verified';
console.log(isVerified ? '\nVERIFIED' : '\nREFUSED, because');
for (const { subject, kind, text } of verdict.reasons) {
  console.log(`  ${subject}${kind === 'any' ? '' : ` ${kind}`}: ${text}`);
}
process.exitCode = isVerified ? 0 : 1;
