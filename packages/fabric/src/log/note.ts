import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
} from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { FabricError } from '../errors.ts';
import type { Hash } from './tree.ts';

/** Signs notes as a log, or as a witness of logs (C2SP signed-note, Ed25519). */
export interface NoteSigner {
  readonly name: string;
  /** What readers are configured with. */
  readonly vkey: string;
  /** A line for a note; a witness says when it saw it. */
  sign(text: string, atSeconds: number): string;
}

const TYPES = { log: 1, witness: 4 } as const;
const RAW_KEY_BYTES = 32;

/** `key` is an Ed25519 private key. */
export function noteSigner(name: string, kind: keyof typeof TYPES, key: KeyObject): NoteSigner {
  const der = createPublicKey(key).export({ format: 'der', type: 'spki' });
  const typed = Buffer.concat([Buffer.of(TYPES[kind]), der.subarray(-RAW_KEY_BYTES)]);
  const id = createHash('sha256').update(`${name}\n`).update(typed).digest().subarray(0, 4);
  return {
    name,
    vkey: `${name}+${id.toString('hex')}+${typed.toString('base64')}`,
    sign(text, atSeconds) {
      const time = Buffer.alloc(8);
      time.writeBigUInt64BE(BigInt(atSeconds));
      const cosigned = `cosignature/v1\ntime ${atSeconds}\n${text}`;
      const parts =
        kind === 'log'
          ? [id, sign(null, Buffer.from(text), key)]
          : [id, time, sign(null, Buffer.from(cosigned), key)];
      return `\u2014 ${name} ${Buffer.concat(parts).toString('base64')}\n`;
    },
  };
}

/** What a log signs: how long it is, and what it holds (C2SP tlog-checkpoint). */
export function checkpointText(origin: string, size: number, root: Hash): string {
  return `${origin}\n${size}\n${root.toString('base64')}\n`;
}

/**
 * The 64 bytes of report data by which a VM's quote says that a log's key is in it: SHA-512 of one
 * line for what it is and one with the key.
 */
export function logKeyReportData(vkey: string): Uint8Array<ArrayBuffer> {
  const text = `bridgekeeper fabric log key v1\n${vkey}\n`;
  return new Uint8Array(createHash('sha512').update(text).digest());
}

/** The Ed25519 key in a file, which is made if it is not there. Throws 'log-unwritable'. */
export function signingKey(path: string): KeyObject {
  try {
    if (!existsSync(path)) {
      const { privateKey } = generateKeyPairSync('ed25519');
      writeFileSync(path, privateKey.export({ type: 'pkcs8', format: 'pem' }), {
        mode: 0o600,
        flag: 'wx',
        flush: true,
      });
    }
    return createPrivateKey(readFileSync(path));
  } catch (cause) {
    const message = `${path}: the key that signs cannot be read or made`;
    throw new FabricError('log-unwritable', message, { cause });
  }
}
