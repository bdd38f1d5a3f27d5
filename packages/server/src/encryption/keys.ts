import type { webcrypto } from 'node:crypto';
import type { Clock } from '@bridgekeeper/bridge';
import {
  AEAD_AES_256_GCM,
  encodeKeyConfigs,
  KDF_SHA256,
  KEM_P256,
  type RecipientKey,
} from '@bridgekeeper/envelope';

/** A key is given out for so long, */
const CURRENT_SECONDS = 24 * 3600;
/** and good for so much longer, for clients that verified it before the next one was made. */
const OVERLAP_SECONDS = 2 * 3600;
const IDS = 256;

interface TimedKey extends RecipientKey {
  readonly madeNs: number;
}

/**
 * The keys that requests can be encrypted to. They are made here, cannot be exported, and end with
 * the process. P-256, which every WebCrypto has.
 */
export class EncryptionKeys {
  readonly #clock: Pick<Clock, 'nowNs'>;
  /** Oldest first; the last is the current one. */
  #keys: readonly TimedKey[];
  #renewal: Promise<void> | undefined;

  private constructor(clock: Pick<Clock, 'nowNs'>, first: TimedKey) {
    this.#clock = clock;
    this.#keys = [first];
  }

  static async make(clock: Pick<Clock, 'nowNs'>): Promise<EncryptionKeys> {
    return new EncryptionKeys(clock, await makeKey(1, clock.nowNs()));
  }

  /** The current key as `application/ohttp-keys`; a new one, if that is too old. */
  async current(): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#ageSeconds(this.#keys.at(-1)!) >= CURRENT_SECONDS) {
      this.#renewal ??= this.#renew().finally(() => {
        this.#renewal = undefined;
      });
      await this.#renewal;
    }
    return encodeKeyConfigs([this.#keys.at(-1)!.config]);
  }

  /** The key of this id, unless its time is over. */
  find(id: number): RecipientKey | undefined {
    const [current, ...earlier] = this.#keys.toReversed();
    const good = earlier.filter((key) => this.#ageSeconds(key) < CURRENT_SECONDS + OVERLAP_SECONDS);
    return [current!, ...good].find(({ config }) => config.id === id);
  }

  async #renew(): Promise<void> {
    const last = this.#keys.at(-1)!;
    const next = await makeKey((last.config.id + 1) % IDS, this.#clock.nowNs());
    this.#keys = [last, next];
  }

  #ageSeconds({ madeNs }: TimedKey): number {
    return (this.#clock.nowNs() - madeNs) / 1e9;
  }
}

async function makeKey(id: number, madeNs: number): Promise<TimedKey> {
  const algorithm = { name: 'ECDH', namedCurve: 'P-256' };
  const usages: webcrypto.KeyUsage[] = ['deriveBits'];
  const keys = await crypto.subtle.generateKey(algorithm, false, usages);
  const publicKey = new Uint8Array(await crypto.subtle.exportKey('raw', keys.publicKey));
  const algorithms = [{ kdf: KDF_SHA256, aead: AEAD_AES_256_GCM }];
  return { config: { id, kem: KEM_P256, publicKey, algorithms }, keys, madeNs };
}
