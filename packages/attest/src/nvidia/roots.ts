/**
 * NVIDIA Device Identity CA, SHA-256 of the certificate. Read from the chains of the evidence that
 * NVIDIA publishes with its SDKs (nvtrust and attestation-sdk), which all end at it, and compared
 * with the root that either SDK embeds.
 */
export const NVIDIA_DEVICE_ROOTS: ReadonlySet<string> = new Set([
  '102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48',
]);
