import { type Check, checkedIn } from '../claims/check.ts';
import type { Claim } from '../claims/claim.ts';
import { isVerified } from '../cpu/tdx-verify.ts';
import { verifyReceiptChain } from '../receipts/chain.ts';
import { appraiseReceipt } from '../receipts/verify.ts';
import type { Evidence } from './evidence.ts';

/**
 * Receipts, by the key that the server's report names, or else by their own; and whether none was
 * left out between them, where a piece of their chain was given.
 */
export async function appraiseReceipts(
  evidence: Evidence,
  serverClaims: readonly Claim[],
): Promise<Claim[]> {
  const { server, receipts, receiptLinks } = evidence;
  const named = server?.statement?.receiptKey ?? null;
  const keyIsProven = named !== null && isVerified(serverClaims, 'server.receiptKey');
  const key = named ?? receipts[0]?.receipt.key ?? null;
  if (key === null) return [];
  const each = receipts.map((signed) => appraiseReceipt(signed, { key, keyIsProven }));
  const claims = (await Promise.all(each)).flat();
  if (receiptLinks === null) return claims;
  const head = server?.statement?.receiptChain ?? null;
  const { first, digests } = receiptLinks;
  const isToHead = head !== null && digests[head.sequence - first] !== undefined;
  const between = `${receipts.length} receipts stand in one chain, none is missing between them`;
  const end = isToHead ? `, up to number ${head.sequence}, when the report was made` : '';
  const source = {
    isGenuine: keyIsProven && (receipts.length > 0 || isToHead),
    doubt: keyIsProven
      ? 'Neither a receipt nor the report has a place in this piece of the chain'
      : 'It holds, and is only as good as its key, which no verified quote holds',
  };
  const check: Check = {
    kind: 'receipt.chain',
    subject: 'RECEIPTS',
    voucher: 'cpu-signed',
    statement: between + end,
    evidence: receipts.map(({ receipt }) => `receipt ${receipt.id}`),
    why: 'Answers can have been given that nobody is shown a receipt for',
  };
  const test = () => verifyReceiptChain(receiptLinks, receipts, key, head);
  return [...claims, await checkedIn(source, check, test)];
}
