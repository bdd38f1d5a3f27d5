import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import type { KvPart } from '../kv/tiers/movement.ts';

const CIPHER = 'aes-256-gcm';
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** Of what is sealed and of how: what was written by another layout is not authentic. */
const LAYOUT_VERSION = 'bridgekeeper kv part 2';

/** Where sealed bytes are kept. Both throw what the system throws. */
export interface SlotFile {
  write(position: number, bytes: Uint8Array): void;
  /** Fills all of `bytes`. */
  read(position: number, bytes: Uint8Array): void;
}

/** What a piece of a part is, beside its bytes. */
export interface Identity {
  readonly tenant: string;
  readonly part: KvPart;
  /** From the beginning of the part. */
  readonly fromBytes: number;
  /** SHA-256 chain over tenant and tokens, latin1. */
  readonly key: string;
}

/** Why a slot could not be written or read. */
export type SealFailure = 'disk-full' | 'disk-failed' | 'not-authentic';

/** What proves that a slot holds what was last written to it: it never leaves memory. */
interface Proof {
  readonly nonce: Buffer;
  readonly tag: Buffer;
}

/**
 * Pages on a disk that belongs to the host: encrypted with AES-256-GCM under a key that is drawn
 * here and never leaves, each with a nonce of its own, and tenant, model, layout and content key as
 * associated data. Nonce and tag of each slot stay in memory, so that what is read is what was last
 * written to that very slot: an older page, or one of another slot, is refused like a broken one.
 */
export class SealedSlots {
  readonly #file: SlotFile;
  readonly #model: string;
  readonly #proofs = new Map<number, Proof>();
  #key = randomBytes(KEY_BYTES);
  #nonces = 0n;

  /** `model` names the model whose pages these are, as exactly as is known. */
  constructor(file: SlotFile, model: string) {
    this.#file = file;
    this.#model = model;
  }

  /** null: the bytes are in the slot at `position`. */
  write(position: number, identity: Identity, bytes: Uint8Array): SealFailure | null {
    this.#proofs.delete(position);
    const nonce = Buffer.alloc(NONCE_BYTES);
    nonce.writeBigUInt64BE(this.#nonces++, NONCE_BYTES - 8);
    const cipher = createCipheriv(CIPHER, this.#key, nonce, { authTagLength: TAG_BYTES });
    cipher.setAAD(this.#associated(identity));
    const sealed = cipher.update(bytes);
    cipher.final();
    try {
      this.#file.write(position, sealed);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      return code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG'
        ? 'disk-full'
        : 'disk-failed';
    }
    this.#proofs.set(position, { nonce, tag: cipher.getAuthTag() });
    return null;
  }

  /** null: `target` holds what was written. Otherwise it is all zeros. */
  read(position: number, identity: Identity, target: Uint8Array): SealFailure | null {
    const proof = this.#proofs.get(position);
    if (proof === undefined) return 'not-authentic';
    const sealed = Buffer.alloc(target.length);
    try {
      this.#file.read(position, sealed);
    } catch {
      return 'disk-failed';
    }
    const decipher = createDecipheriv(CIPHER, this.#key, proof.nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(this.#associated(identity));
    decipher.setAuthTag(proof.tag);
    target.set(decipher.update(sealed));
    try {
      decipher.final();
      return null;
    } catch {
      // What was not proven is used by nobody, not even by mistake.
      target.fill(0);
      return 'not-authentic';
    }
  }

  /** What is in the slot is never read again. */
  drop(position: number): void {
    this.#proofs.delete(position);
  }

  /** Erases the key, and with it all content. */
  dropAll(): void {
    this.#proofs.clear();
    this.#key.fill(0);
    this.#key = randomBytes(KEY_BYTES);
    this.#nonces = 0n;
  }

  #associated({ tenant, part, fromBytes, key }: Identity): Buffer {
    const hash = createHash('sha256');
    // Lengths keep the boundaries between fields from moving.
    for (const field of [LAYOUT_VERSION, this.#model, tenant, part, String(fromBytes)]) {
      hash.update(`${Buffer.byteLength(field)}:`).update(field);
    }
    return hash.update(key, 'latin1').digest();
  }
}
