import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { Policy, TrustAnchors } from '@bridgekeeper/attest';
import {
  type ClientClock,
  type ClientError,
  connect as connectEncrypted,
  type Verification,
  type Verified,
} from '@bridgekeeper/client';
import { connect as connectTls } from '@bridgekeeper/client/node';
import { VerifyError } from '../verify/errors.ts';
import { openServices } from '../verify/services.ts';
import { type RunningProxy, startProxy } from './proxy.ts';

export interface ConnectionOptions {
  readonly url: string;
  readonly policy: Policy;
  /** To the server's own key, through whatever ends TLS; else TLS ends in the server. */
  readonly isEncrypted: boolean;
  /** Of this machine's loopback; 0: a free one. */
  readonly port: number;
  readonly reportSecondsMax: number;
  readonly isOffline: boolean;
  readonly rimFolder: string | undefined;
  /** Paths of evidence that belongs to the server's. */
  readonly files: readonly string[];
  readonly apiKey: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Called after every verification, the first included. */
  readonly onVerification: (outcome: Verification | ClientError) => void;
  /** Where they are not the vendors' and this machine's. */
  readonly anchors?: TrustAnchors;
  readonly clock?: ClientClock;
}

export interface OpenConnection {
  readonly verified: Verified;
  readonly proxy: RunningProxy;
  close(): Promise<void>;
}

/**
 * Verifies the server and listens on loopback for what is to be passed on to it. Throws
 * ClientError, VerifyError for a file that cannot be read, and UsageError for a port that cannot be
 * had.
 */
export async function openConnection(options: ConnectionOptions): Promise<OpenConnection> {
  const { url, policy, isOffline, rimFolder, environment, apiKey, anchors, clock } = options;
  const { reportSecondsMax, onVerification } = options;
  const connect = options.isEncrypted ? connectEncrypted : connectTls;
  const verified = await connect(url, {
    policy,
    reportSecondsMax,
    onVerification,
    files: options.files.map(readEvidence),
    services: (atMs) => openServices({ atMs, isOffline, rimFolder, environment, tokenKeys: null }),
    ...(apiKey !== undefined && { apiKey }),
    ...(anchors !== undefined && { anchors }),
    ...(clock !== undefined && { clock }),
  });
  try {
    const proxy = await startProxy({ verified, port: options.port });
    const close = async () => {
      verified.close();
      await proxy.close();
    };
    return { verified, proxy, close };
  } catch (error) {
    verified.close();
    throw error;
  }
}

function readEvidence(path: string) {
  try {
    return { name: basename(path), bytes: new Uint8Array(readFileSync(path)), isNamed: true };
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new VerifyError('not-found', `${path} cannot be read: ${code}`, { cause });
  }
}
