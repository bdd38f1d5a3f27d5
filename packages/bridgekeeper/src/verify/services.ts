import { randomBytes } from 'node:crypto';
import { homedir } from 'node:os';
import { join } from 'node:path';
import {
  collateralService,
  fetchTokenKeys,
  firstReference,
  type Http,
  keptReferences,
  ocspService,
  referenceService,
  type TokenKeys,
  type VerifyContext,
} from '@bridgekeeper/attest';
import { diskStore, referenceFolder } from '@bridgekeeper/attest/node';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';

export interface ServiceOptions {
  readonly atMs: number;
  readonly isOffline: boolean;
  /** Of RIM files named by their ids; asked before any service. */
  readonly rimFolder: string | undefined;
  /** Keys of a token service that its user names; null: the service is asked. */
  readonly tokenKeys: TokenKeys | null;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** Seconds that a vendor's service has for an answer. */
const ANSWER_SECONDS = 15;

/**
 * Where references, revocation, token keys and collateral come from: the folder, and unless offline
 * what was kept of earlier answers and the vendors' services.
 */
export function openServices(
  options: ServiceOptions,
): Pick<VerifyContext, 'references' | 'revocation' | 'tokenKeys' | 'collateral'> {
  const { atMs, isOffline, rimFolder, tokenKeys: named, environment } = options;
  const namedKeys = named && (async () => named);
  const folders = rimFolder === undefined ? [] : [referenceFolder(rimFolder)];
  if (isOffline) {
    const references = rimFolder === undefined ? null : firstReference(folders);
    return { references, revocation: null, tokenKeys: namedKeys, collateral: null };
  }
  const base = environment.XDG_CACHE_HOME || join(homedir(), '.cache');
  const store = diskStore(join(base, 'bridgekeeper', 'attest'));
  const http: Http = { fetch, deadline };
  return {
    references: firstReference([...folders, keptReferences(referenceService(http), store)]),
    revocation: ocspService({ http, nowMs: atMs, nonce: ocspNonce, store }),
    tokenKeys: namedKeys ?? (() => fetchTokenKeys(http)),
    collateral: collateralService(http, undefined, store),
  };
}

const ocspNonce = () => new Uint8Array(randomBytes(32));

function deadline(): AbortSignal {
  const stop = new AbortController();
  // Unlike `after`, this keeps no process waiting for a deadline that no longer matters.
  const end = HOST_CLOCK.every(ANSWER_SECONDS, () => {
    end();
    stop.abort();
  });
  return stop.signal;
}
