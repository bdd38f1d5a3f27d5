import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
} from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import type { ReceiptSigner } from '@bridgekeeper/attest';
import { ReceiptsError } from './errors.ts';

/** A key that lives as long as this process. */
export function ephemeralSigner(): ReceiptSigner {
  return signerOf(generateKeyPairSync('ed25519').privateKey);
}

/**
 * The key of a file (PKCS #8, PEM), readable by its owner only, and made with the first use if
 * `mayMake`. To read it is to be able to sign: it is as safe as the disk. Throws ReceiptsError
 * 'bad-key'.
 */
export function signerFromFile(
  path: string,
  { mayMake }: { readonly mayMake: boolean },
): ReceiptSigner {
  const existing = readKey(path);
  if (existing !== undefined) return signerOf(existing);
  if (!mayMake) {
    const remedy = 'put it back, or move the receipts and their .head away for a new chain';
    throw new ReceiptsError('bad-key', `${path}, which signed the receipts, is missing: ${remedy}`);
  }
  const { privateKey } = generateKeyPairSync('ed25519');
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' });
  attempt(path, () => writeFileSync(path, pem, { flag: 'wx', mode: 0o600, flush: true }));
  return signerOf(privateKey);
}

function readKey(path: string): KeyObject | undefined {
  const status = attempt(path, () => statSync(path, { throwIfNoEntry: false }));
  if (status === undefined) return undefined;
  if ((status.mode & 0o077) !== 0) {
    const message = `${path} can be read by others: chmod 600 it`;
    throw new ReceiptsError('bad-key', message);
  }
  const key = attempt(path, () => createPrivateKey(readFileSync(path)));
  if (key.asymmetricKeyType === 'ed25519') return key;
  throw new ReceiptsError('bad-key', `${path} holds a ${key.asymmetricKeyType} key, not Ed25519`);
}

function signerOf(privateKey: KeyObject): ReceiptSigner {
  const { x } = createPublicKey(privateKey).export({ format: 'jwk' });
  return {
    key: Buffer.from(x as string, 'base64url').toString('hex'),
    sign: async (message) => new Uint8Array(sign(null, message, privateKey)),
  };
}

function attempt<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new ReceiptsError('bad-key', `cannot use ${path}: ${code ?? message}`, { cause });
  }
}
