import {
  readReceiptLinks,
  readSignedReceipt,
  type SignedReceipt,
  verifyReceiptChain,
} from '@bridgekeeper/attest';
import type { Answer } from './ask.ts';
import type { World } from './world.ts';

/** A receipt is on the disk a moment after its answer: so long before a loss it may not be. */
const WRITE_SECONDS = 2;
const LINKS = 1000;

export interface ReceiptsChecked {
  readonly checked: number;
  /** Promised, and lost with a process that was killed a moment later. */
  readonly excused: number;
  readonly violations: readonly string[];
}

/** Whether each id that was handed out exists, and the chain is whole. */
export async function receiptViolations(
  world: World,
  answers: readonly Answer[],
): Promise<ReceiptsChecked> {
  const violations: string[] = [];
  const receipts: SignedReceipt[] = [];
  let excused = 0;
  for (const { receiptId, endedSeconds } of answers) {
    if (receiptId === null) continue;
    const response = await fetch(`${world.url}/v1/receipts/${receiptId}`);
    const text = await response.text();
    if (response.status === 200) {
      receipts.push(readSignedReceipt(text));
      continue;
    }
    const isLost = world.outages.some(
      ({ from, to, isKill }) => isKill && endedSeconds > from - WRITE_SECONDS && endedSeconds < to,
    );
    if (isLost) excused += 1;
    else violations.push(`receipt ${receiptId} was promised and is not there`);
  }
  const json = async (path: string) => (await fetch(`${world.url}${path}`)).text();
  const key = JSON.parse(await json('/v1/receipts/key')) as {
    public_key: string;
    chain: { sequence: number; hash: string | null };
  };
  let previous: string | null = null;
  const mine = new Map(receipts.map((signed) => [signed.receipt.sequence, signed]));
  for (let first = 1; first <= key.chain.sequence; first += LINKS) {
    const links = readReceiptLinks(await json(`/v1/receipts/links?first=${first}&count=${LINKS}`));
    const own = links.digests.flatMap((_, at) => mine.get(first + at) ?? []);
    const isNext = links.first === first && links.previous === previous;
    if (!isNext) violations.push(`the chain does not go on at ${first}`);
    const chain = key.chain.sequence < first + LINKS ? key.chain : null;
    try {
      previous = await verifyReceiptChain(links, own, key.public_key, chain);
    } catch (error) {
      violations.push(`the chain: ${(error as Error).message}`);
      break;
    }
  }
  if (previous !== key.chain.hash) violations.push('the chain does not end where it says');
  return { checked: receipts.length, excused, violations };
}
