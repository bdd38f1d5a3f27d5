import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Claim, Found, LogTrust, Policy } from '@bridgekeeper/attest';
import { VerifyError } from './errors.ts';
import { fetchTiles, isLogAddress } from './fetch-log.ts';

/** A log of a host's fabric, and what a tenant knows of it. */
export interface FabricLogGiven {
  /** The folder that the host gives out, or the address where it serves its log. */
  readonly place: string;
  readonly trust: LogTrust;
  /** The log's key as it is written. */
  readonly vkey: string;
  /** Texts of checkpoints and proofs that the tenant kept. */
  readonly earlier: readonly string[];
  /** What opens the tenant's commitments, JSON; null: nothing does. */
  readonly openings: string | null;
  /** Files of the quote of the VM with the log's key, and what it must measure; null: none. */
  readonly quote: { readonly paths: readonly string[]; readonly policy: Policy } | null;
}

/** Whether evidence in files holds under a policy and carries these report data. */
export type VerifyQuote = (
  paths: readonly string[],
  policy: Policy,
  reportData: Uint8Array<ArrayBuffer>,
) => Promise<boolean>;

/**
 * Reads the log and the quote of its key, and says how to compare them with evidence. A log that is
 * broken is compared too: it is refused. Null: the openings are none. Throws VerifyError.
 */
export async function readFabricLog(
  { place, trust, vkey, earlier, openings, quote }: FabricLogGiven,
  nowMs: number,
  verifyQuote: VerifyQuote,
): Promise<((found: Found) => Promise<readonly Claim[]>) | null> {
  const { FabricError, fabricClaims, logKeyReportData, readLogFolder, readLogTiles, readOpenings } =
    await import('@bridgekeeper/fabric');
  if (!isLogAddress(place) && !existsSync(join(place, 'entries'))) {
    throw new VerifyError('not-found', `${place} holds no log: entries, checkpoint`);
  }
  const opened = openings === null ? [] : readOpenings(openings);
  if (opened === null) return null;
  const given = await read();
  const isQuoted =
    quote === null ? null : await verifyQuote(quote.paths, quote.policy, logKeyReportData(vkey));
  async function read() {
    try {
      const log = isLogAddress(place)
        ? await readLogTiles(fetchTiles(place))
        : readLogFolder(place);
      return { ...log, earlier };
    } catch (error) {
      if (error instanceof FabricError) return error;
      throw error;
    }
  }
  return (found) => fabricClaims(given, { trust, vkey, openings: opened, isQuoted, nowMs }, found);
}
