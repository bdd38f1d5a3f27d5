const SCHEME = 'Bridgekeeper-Proof';
const encoder = new TextEncoder();

/**
 * What asks for a report where the API wants a key, before anything is known of who answers: it
 * proves the key for this nonce and shows nothing of it. HMAC-SHA-256, with the key's SHA-256 as
 * its key, over `bridgekeeper.report.v1 ` and the nonce's hexadecimal digits.
 */
export async function proofOfKey(apiKey: string, nonceHex: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', encoder.encode(apiKey));
  const algorithm = { name: 'HMAC', hash: 'SHA-256' };
  const key = await crypto.subtle.importKey('raw', digest, algorithm, false, ['sign']);
  const message = encoder.encode(`bridgekeeper.report.v1 ${nonceHex}`);
  const proof = new Uint8Array(await crypto.subtle.sign('HMAC', key, message));
  return `${SCHEME} ${hexOf(proof)}`;
}

export function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
