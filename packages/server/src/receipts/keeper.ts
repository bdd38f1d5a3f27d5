import { existsSync } from 'node:fs';
import { type ReceiptSigner, sealHead } from '@bridgekeeper/attest';
import { type Draft, ReceiptBook, type Written } from './book.ts';
import { ReceiptsError } from './errors.ts';
import { HeadFile } from './head-file.ts';
import type {
  Answers,
  FromBook,
  Question,
  ReceiptsPaths,
  ReceiptsThreadData,
  ToBook,
} from './messages.ts';
import { type OwnedFile, ownNow } from './owner.ts';
import { ephemeralSigner, signerFromFile } from './signing-key.ts';
import { ReceiptStore, type Retention } from './store.ts';
import { checkTail } from './tail.ts';

/** The end of a channel at which the receipts are kept. */
export interface KeeperPort {
  postMessage(message: FromBook): void;
  on(event: 'message', listener: (message: ToBook) => void): unknown;
  close(): void;
}

interface Opened {
  readonly store: ReceiptStore;
  readonly signer: ReceiptSigner;
  readonly heads: HeadFile | null;
}

async function open({ file }: ReceiptsThreadData): Promise<Opened> {
  if (file === null) {
    return { store: new ReceiptStore(null), signer: ephemeralSigner(), heads: null };
  }
  const store = new ReceiptStore(file.path);
  try {
    const isNew = store.head().sequence === 0;
    const signer = signerFromFile(keyFileOf(file), { mayMake: isNew });
    const heads = new HeadFile(`${file.path}.head`);
    await checkTail(store, heads, signer.key);
    // First of all: a file of this version without a head is refused.
    heads.write(await sealHead(store.head(), signer));
    store.upgrade();
    return { store, signer, heads };
  } catch (cause) {
    store.close();
    if (cause instanceof ReceiptsError) throw cause;
    const { message } = cause as Error;
    throw new ReceiptsError('bad-file', `cannot use ${file.path}: ${message}`);
  }
}

function keyFileOf({ path, givenPath }: ReceiptsPaths): string {
  const [beside, given] = [`${path}.key`, `${givenPath}.key`];
  return !existsSync(beside) && existsSync(given) ? given : beside;
}

/** What one file, or the memory before it, has. */
interface Chain extends Opened {
  readonly book: ReceiptBook;
  /** null: in memory. */
  readonly owned: OwnedFile | null;
}

/** Reports that name a chain's key are finished with it, also when another one is written. */
type Chains = Map<string, Pick<Chain, 'signer' | 'book'>>;

function answerTo(question: Question, { store }: Chain, chains: Chains) {
  switch (question.kind) {
    case 'find':
      return store.find(question.id, question.tenant);
    case 'links':
      return store.links(question.first, question.count);
    case 'head':
      return chains.get(question.key)!.book.head;
    case 'sign':
      return chains.get(question.key)!.signer.sign(question.message);
  }
}

/**
 * The receipts that are in memory at the end of a file's chain, under its key: their ids were
 * handed out, and name the same answers. null: another process has the file. Throws ReceiptsError,
 * or what keeps them from being written; then they stay where they are, and what was written is
 * not written again.
 */
async function moved(
  former: Chain,
  path: string,
  retention: Retention,
): Promise<(Chain & { readonly count: number }) | null> {
  const owned = ownNow(path);
  if (owned === null) return null;
  try {
    const opened = await open({ file: { path: owned.path, givenPath: path }, retention });
    try {
      const book = new ReceiptBook({ ...opened, retention });
      let count = 0;
      for (const { signed, tenant } of former.store.all()) {
        const { type, sequence, previous, key, ...facts } = signed.receipt;
        count += 1;
        if (!opened.store.has(facts.id)) book.add({ facts, tenant });
      }
      const { trouble } = await book.write();
      if (trouble !== null) throw new ReceiptsError('bad-file', trouble);
      return { ...opened, book, owned, count };
    } catch (error) {
      opened.store.close();
      throw error;
    }
  } catch (error) {
    owned.release();
    throw error;
  }
}

/**
 * Messages are handled one after the other; drafts that come meanwhile are written together. Ends
 * with the port, and rejects where a message cannot be handled.
 */
function serve(port: KeeperPort, opened: Opened, retention: Retention): Promise<void> {
  let chain: Chain = { ...opened, book: new ReceiptBook({ ...opened, retention }), owned: null };
  const { key } = opened.signer;
  const chains: Chains = new Map([[key, chain]]);
  const tell = (result: Written) => port.postMessage({ kind: 'wrote', result });
  return new Promise((end, fail) => {
    let tail = Promise.resolve();
    let isWriting = false;
    /** Come since the last write, for the chain that is written then. */
    let fresh: Draft[] = [];
    const then = (action: () => void | Promise<void>) => {
      tail = tail.then(action);
      tail.catch(fail);
    };
    const write = () => {
      if (isWriting) return;
      isWriting = true;
      then(async () => {
        isWriting = false;
        for (const draft of fresh) chain.book.add(draft);
        fresh = [];
        tell(await chain.book.write());
      });
    };
    const move = async (path: string, kept: Retention) => {
      if (chain.owned !== null) return;
      const former = chain;
      try {
        const next = await moved(former, path, kept);
        if (next === null) return;
        chain = next;
        chains.set(next.signer.key, next);
        former.store.close();
        const { count } = next;
        port.postMessage({ kind: 'moved', path, key: next.signer.key, count });
      } catch (error) {
        const { message } = error as Error;
        const code = error instanceof ReceiptsError ? error.code : 'bad-file';
        port.postMessage({ kind: 'refused', code, message });
      }
    };
    const handle = (message: ToBook) => {
      switch (message.kind) {
        case 'issue':
          fresh.push(message.draft);
          write();
          break;
        case 'ask':
          then(async () => {
            const { ask, question } = message;
            try {
              const value: Answers[Question['kind']] = await answerTo(question, chain, chains);
              port.postMessage({ kind: 'answer', ask, value });
            } catch (error) {
              // A disk that fails for a while costs answers, and not those who come after it.
              port.postMessage({ kind: 'unanswered', ask, message: (error as Error).message });
            }
          });
          break;
        case 'write':
          write();
          break;
        case 'age':
          then(async () => tell(await chain.book.age(message.seconds)));
          break;
        case 'move':
          then(() => move(message.path, message.retention));
          break;
        case 'close':
          write();
          then(() => {
            chain.store.close();
            chain.owned?.release();
            port.close();
            end();
          });
          break;
      }
    };
    port.on('message', handle);
    port.postMessage({ kind: 'ready', key });
    // As many as are to be kept now: there may be fewer than before.
    then(async () => tell(await chain.book.age(0)));
  });
}

/**
 * Keeps the receipts for whoever is at the other end of the port, until told to close. Says first
 * whether it can. Rejects where it cannot go on.
 */
export async function keepReceipts(port: KeeperPort, data: ReceiptsThreadData): Promise<void> {
  let opened: Opened;
  try {
    opened = await open(data);
  } catch (error) {
    if (!(error instanceof ReceiptsError)) throw error;
    port.postMessage({ kind: 'refused', code: error.code, message: error.message });
    port.close();
    return;
  }
  await serve(port, opened, data.retention);
}
