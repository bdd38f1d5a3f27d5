import { type ChainHead, verifyHead, verifyReceiptChain } from '@bridgekeeper/attest';
import { ReceiptsError } from './errors.ts';
import type { HeadFile } from './head-file.ts';
import type { ReceiptStore } from './store.ts';

const PIECE_MAX = 256;

/**
 * Checks that a store ends where its signed head says, or goes on from there: a head is written
 * after its receipts, so a process that was killed in between leaves it behind by a batch. `key`
 * is the one that signs (raw Ed25519, hex). Throws ReceiptsError 'broken-tail'.
 */
export async function checkTail(store: ReceiptStore, heads: HeadFile, key: string): Promise<void> {
  const stored = store.head();
  const known = await knownHead(store, heads, key);
  if (known !== null && known.sequence > stored.sequence) {
    throw broken(store, `ends at receipt ${stored.sequence}, and its chain at ${known.sequence}`);
  }
  let from = known;
  let next = Math.max(1, known?.sequence ?? stored.sequence);
  do {
    const { links, receipts } = store.piece(next, PIECE_MAX);
    // All may have been deleted for their age; then there are none behind the head.
    const isEmptied = next === stored.sequence && links.digests.length === 0;
    if (links.first !== next && !isEmptied) throw broken(store, `has no receipt ${next}`);
    const hash = await signedOnly(store, () => verifyReceiptChain(links, receipts, key, from));
    next = links.first + links.digests.length;
    from = { sequence: next - 1, hash };
  } while (next <= stored.sequence);
  if (from.hash !== stored.hash) throw broken(store, 'does not end where it says');
}

/** What the head's file says; null: there is none yet. */
async function knownHead(
  store: ReceiptStore,
  heads: HeadFile,
  key: string,
): Promise<ChainHead | null> {
  const signed = await signedOnly(store, async () => heads.read());
  if (signed !== null) return signedOnly(store, () => verifyHead(signed, key));
  if (store.hasHeads && store.head().sequence > 0) throw broken(store, 'has no signed head');
  return null;
}

async function signedOnly<T>(store: ReceiptStore, action: () => Promise<T>): Promise<T> {
  return action().catch((cause: unknown) => {
    throw broken(store, `is not the chain that was signed: ${(cause as Error).message}`, cause);
  });
}

function broken({ path }: ReceiptStore, what: string, cause?: unknown): ReceiptsError {
  const remedy =
    'restore it together with what is beside it (.key, .head), or move all three away: a new ' +
    'chain then begins, with a new key';
  return new ReceiptsError('broken-tail', `${path} ${what}: ${remedy}`, { cause });
}
