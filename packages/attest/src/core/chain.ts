import { equalBytes } from './bytes.ts';
import { type Certificate, nameOf } from './certificate.ts';
import { AttestError, demand } from './errors.ts';
import { isSignedWith } from './signature.ts';

/**
 * Signatures between certificates that were found good, by both fingerprints. Chains of one fleet
 * share their upper parts, so a machine's twelve devices cost far fewer than twelve chains.
 */
export class ChainCache {
  readonly #links = new Map<string, Promise<boolean>>();
  readonly #countMax: number;

  constructor(countMax = 4096) {
    this.#countMax = countMax;
  }

  /** Whether `issuer` signed `child`; asked at the same time by several, it is verified once. */
  async isSigned(child: Certificate, issuer: Certificate): Promise<boolean> {
    const name = child.sha256 + issuer.sha256;
    const known = this.#links.get(name);
    if (known !== undefined) return known;
    if (this.#links.size >= this.#countMax) this.#links.clear();
    const verified = isSignedWith(child, issuer.spki);
    this.#links.set(name, verified);
    const isGood = await verified;
    if (!isGood) this.#links.delete(name);
    return isGood;
  }
}

/**
 * Verifies a chain from its leaf (first) to a pinned root (last): names, right to issue, path
 * lengths, signatures. Time is not judged here (`expiryOf`): that is for a policy to do. Throws
 * AttestError 'chain-broken' or 'root-not-pinned'.
 */
export async function verifyChain(
  chain: readonly Certificate[],
  pinnedRootSha256: ReadonlySet<string>,
  cache: ChainCache,
): Promise<void> {
  const root = chain.at(-1);
  demand(root !== undefined, 'chain-broken', 'the chain is empty');
  demand(
    pinnedRootSha256.has(root.sha256),
    'root-not-pinned',
    `the chain ends at ${nameOf(root)} (SHA-256 ${root.sha256}), which is no pinned root`,
  );
  for (const [i, child] of chain.entries()) {
    const issuer = chain[i + 1] ?? root;
    const link = `${nameOf(child)}, issued by ${nameOf(issuer)}`;
    const isNamed = equalBytes(child.issuerDer, issuer.subjectDer);
    demand(isNamed, 'chain-broken', `${link}: the names differ`);
    demand(issuer.mayIssue, 'chain-broken', `${link}: the issuer may not issue certificates`);
    const below = i;
    demand(
      issuer.pathLength === null || below <= issuer.pathLength || issuer === child,
      'chain-broken',
      `${link}: too many issuers below`,
    );
    demand(
      child.unknownCritical.length === 0,
      'chain-broken',
      `${link}: critical extension ${child.unknownCritical[0]} is not understood`,
    );
    if (!(await cache.isSigned(child, issuer))) {
      throw new AttestError('chain-broken', `${link}: the signature does not hold`);
    }
  }
}

/** The first certificate that is not valid at `atMs`, or null. */
export function expiryOf(chain: readonly Certificate[], atMs: number): Certificate | null {
  return chain.find((one) => atMs < one.notBeforeMs || atMs > one.notAfterMs) ?? null;
}
