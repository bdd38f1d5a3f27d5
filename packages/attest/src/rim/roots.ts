/**
 * NVIDIA CoRIM signing Root CA (2023 to 2053), SHA-256 of the certificate. Read from the genuine
 * RIMs that NVIDIA publishes with its SDKs (nvtrust and attestation-sdk), whose chains all end at
 * it, and compared with the root of SWID documents that either SDK embeds. NVIDIA CoRIM Root CA001
 * (2026 to 2056), which attestation-sdk trusts as well, signs CoRIM documents, which are not read.
 */
export const NVIDIA_RIM_ROOTS: ReadonlySet<string> = new Set([
  '12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1',
]);
