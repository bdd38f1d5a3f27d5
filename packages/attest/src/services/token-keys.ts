import { demand } from '../core/errors.ts';
import { readTokenKeys, type TokenKeys } from '../nras/keys.ts';
import { ask, type Http } from './http.ts';

/** Where NVIDIA's remote attestation service publishes its keys. */
const NRAS_KEYS_URL = 'https://nras.attestation.nvidia.com/.well-known/jwks.json';

const ANSWER_BYTES_MAX = 256 * 1024;

/** Fetches a key set. Rejects with AttestError as `ask` and `readTokenKeys` do. */
export async function fetchTokenKeys(http: Http, url: string = NRAS_KEYS_URL): Promise<TokenKeys> {
  const headers = { accept: 'application/json' };
  const body = await ask(http, { url, headers, answerBytesMax: ANSWER_BYTES_MAX });
  demand(body !== null, 'not-available', `there are no keys at ${url}`);
  return readTokenKeys(body);
}
