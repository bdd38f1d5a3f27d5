import type { ReceiptCounts } from '../receipts/receipts.ts';
import { Reading } from './reading.ts';

/** What became of the receipts that answers were promised, and how many were promised none. */
export function receiptMetrics(
  counts: () => ReceiptCounts,
  labels: Readonly<Record<string, string>>,
): Reading {
  return new Reading(
    'bridgekeeper:receipts_total',
    'counter',
    'Receipts by what became of them: written, lost, or withheld.',
    () => {
      const { written, lost, withheld } = counts();
      return [
        { labels: { outcome: 'written', ...labels }, value: written },
        { labels: { outcome: 'lost', ...labels }, value: lost },
        { labels: { outcome: 'withheld', ...labels }, value: withheld },
      ];
    },
  );
}
