import { ModelError } from '../models/errors.ts';
import { readText } from '../models/files.ts';
import { openSealKey, type SealKey } from './cipher.ts';
import { parseSeal, type Seal } from './manifest.ts';
import { SEAL_NAME } from './names.ts';

/** What is asked of a model's seal before anything of it is used. */
export interface SealPolicy {
  /** auto: verify where there is a manifest. A root or a key that is given requires one, too. */
  readonly mode: 'off' | 'auto' | 'require';
  /** The root that the model must have, 64 hex digits. */
  readonly root?: string | undefined;
  /** The key of an encrypted model, 32 bytes. */
  readonly userKey?: Uint8Array | undefined;
}

/** A model's seal, and what its chunks are decrypted with: null where they are not encrypted. */
export interface OpenedSeal {
  readonly seal: Seal;
  readonly key: SealKey | null;
}

/** The manifest of the model in `folder`, or null where there is none. Throws ModelError. */
export async function readSeal(folder: string): Promise<Seal | null> {
  const text = await readText(folder, SEAL_NAME);
  return text === undefined ? null : parseSeal(text);
}

/**
 * The seal of the model in `folder` if `policy` is content with it; null where the model is to be
 * loaded without one. Throws ModelError: `not-sealed`, `seal-mismatch`, `wrong-key`, `malformed`.
 */
export async function openSeal(folder: string, policy: SealPolicy): Promise<OpenedSeal | null> {
  const { mode, root, userKey } = policy;
  if (mode === 'off') return null;
  const seal = await readSeal(folder);
  if (seal === null) {
    if (mode === 'auto' && root === undefined && userKey === undefined) return null;
    const hint = 'bridgekeeper seal makes one';
    throw new ModelError('not-sealed', `there is no ${SEAL_NAME} in ${folder}; ${hint}`);
  }
  if (root !== undefined && root.toLowerCase() !== seal.root) {
    const message = `the model's root is ${seal.root}, and ${root} was expected`;
    throw new ModelError('seal-mismatch', message);
  }
  if (userKey !== undefined) return { seal, key: openSealKey(seal, userKey) };
  if (seal.encryption !== null) {
    const hint = 'give its key: a file that holds it, or a command that prints it';
    throw new ModelError('wrong-key', `the model in ${folder} is encrypted; ${hint}`);
  }
  return { seal, key: null };
}
