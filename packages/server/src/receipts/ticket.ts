import { createHash, randomBytes } from 'node:crypto';
import type { ReceiptFacts } from '@bridgekeeper/attest';
import type { CrossingShare } from '@bridgekeeper/engine';
import type { Receipts } from './receipts.ts';

/** What is known of an answer before it begins. */
export interface TicketFacts
  extends Pick<
    ReceiptFacts,
    'model' | 'modelDigest' | 'policy' | 'law' | 'requestSha256' | 'replica'
  > {
  readonly tenant: string;
}

/** What is known at its end. */
export interface TicketEnd
  extends Pick<ReceiptFacts, 'outcome' | 'tokens' | 'kv' | 'createdAt' | 'engine'> {
  readonly crossings: readonly CrossingShare[];
}

/** The receipt of an answer that is being sent: its id is out before the first byte. */
export class ReceiptTicket {
  readonly id = `rcpt_${randomBytes(16).toString('hex')}`;
  readonly #receipts: Receipts;
  readonly #facts: TicketFacts;
  readonly #sent = createHash('sha256');

  constructor(receipts: Receipts, facts: TicketFacts) {
    this.#receipts = receipts;
    this.#facts = facts;
  }

  /** Takes in a part of the body, exactly as it is sent. */
  sent(text: string): void {
    this.#sent.update(text);
  }

  /** To be called once. */
  issue({ crossings, ...end }: TicketEnd): void {
    const { tenant, ...facts } = this.#facts;
    const entries = combine(crossings);
    const responseSha256 = this.#sent.digest('hex');
    const shares = { attribution: 'equal-share-while-resident', entries } as const;
    this.#receipts.issue(
      { id: this.id, ...facts, ...end, responseSha256, crossings: shares },
      tenant,
    );
  }
}

/** Adds up what several choices were given, one entry for each purpose and direction. */
function combine(shares: readonly CrossingShare[]): ReceiptFacts['crossings']['entries'] {
  const byName = new Map<string, ReceiptFacts['crossings']['entries'][number]>();
  for (const { purpose, direction, crossings, bytes } of shares) {
    const name = `${purpose} ${direction}`;
    const before = byName.get(name) ?? { crossings: 0, bytes: 0 };
    byName.set(name, {
      purpose,
      direction,
      crossings: before.crossings + crossings,
      bytes: before.bytes + bytes,
    });
  }
  return [...byName.values()].map((entry) => ({
    ...entry,
    crossings: Math.round(entry.crossings * 1e6) / 1e6,
    bytes: Math.round(entry.bytes),
  }));
}

/** SHA-256, in hex, of a body as it came. */
export function requestDigest(body: Uint8Array): string {
  return createHash('sha256').update(body).digest('hex');
}
