/**
 * Intel SGX Root CA (it also signs for TDX), SHA-256 of the certificate. Read from the collateral
 * that Phala-Network/dcap-qvl publishes as its sample, and equal to the root that the npm package
 * @phala/dcap-qvl 0.3.9 embeds.
 */
export const INTEL_SGX_ROOTS: ReadonlySet<string> = new Set([
  '44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3',
]);

/**
 * AMD root keys (ARK) by product line, SHA-256 of the certificate. Read from google/go-sev-guest
 * (verify/trust, commit af1c107a) and equal to those of virtee/sev (src/certs/snp/builtin, commit
 * 9cf2adbf); both say that they come from AMD's key distribution service.
 */
export const AMD_ARKS: ReadonlySet<string> = new Set([
  // Milan
  '69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd',
  // Genoa, Bergamo and Siena
  '4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1',
  // Turin
  '1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a',
]);
