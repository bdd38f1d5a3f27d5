import { fromBase64, fromHex } from '../core/bytes.ts';
import {
  ChainCache,
  readPolicy,
  resultLines,
  type TrustAnchors,
  VENDOR_ROOTS,
  verifyEvidence,
} from '../index.ts';

/** What a page is asked to verify: plain data, as it has to cross into a browser. */
export interface PageRequest {
  /** Contents in base64, by name. */
  readonly files: readonly (readonly [name: string, base64: string])[];
  /** A policy file. */
  readonly policy: string;
  readonly nowMs: number;
  readonly nonceHex: string | null;
  /** null: the vendors' own. */
  readonly anchors: Readonly<Record<keyof TrustAnchors, readonly string[]>> | null;
  readonly connectionSpkiSha256: string | null;
}

/** Verifies within a browser, with nothing but the package's public surface. */
export async function verifyInPage(request: PageRequest) {
  const { files, policy, nowMs, nonceHex, anchors, connectionSpkiSha256 } = request;
  const result = await verifyEvidence({
    input: 'page',
    files: files.map(([name, text]) => ({ name, bytes: fromBase64(text, name), isNamed: true })),
    policy: readPolicy(policy, 'the policy'),
    context: {
      nowMs,
      anchors: anchors === null ? VENDOR_ROOTS : anchorsOf(anchors),
      chains: new ChainCache(),
      nonce: nonceHex === null ? null : fromHex(nonceHex, 'the nonce'),
      references: null,
      revocation: { status: async () => 'good' },
      tokenKeys: null,
      collateral: null,
      connectionSpkiSha256,
    },
  });
  return {
    result: result.verdict.result,
    claims: result.claims,
    lines: resultLines(result, false),
  };
}

function anchorsOf(anchors: NonNullable<PageRequest['anchors']>): TrustAnchors {
  const sets = Object.entries(anchors).map(([name, roots]) => [name, new Set(roots)]);
  return Object.fromEntries(sets) as TrustAnchors;
}
