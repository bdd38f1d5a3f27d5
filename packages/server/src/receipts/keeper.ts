import { existsSync } from 'node:fs';
import { type ReceiptSigner, sealHead } from '@bridgekeeper/attest';
import { ReceiptBook, type Written } from './book.ts';
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

function answerTo(question: Question, { store, signer }: Opened, book: ReceiptBook) {
  switch (question.kind) {
    case 'find':
      return store.find(question.id, question.tenant);
    case 'links':
      return store.links(question.first, question.count);
    case 'head':
      return book.head;
    case 'sign':
      return signer.sign(question.message);
  }
}

/**
 * Messages are handled one after the other; drafts that come meanwhile are written together. Ends
 * with the port, and rejects where a message cannot be handled.
 */
function serve(port: KeeperPort, opened: Opened, retention: Retention): Promise<void> {
  const { store, signer } = opened;
  const book = new ReceiptBook({ ...opened, retention });
  const tell = (result: Written) => port.postMessage({ kind: 'wrote', result });
  return new Promise((end, fail) => {
    let tail = Promise.resolve();
    let isWriting = false;
    const then = (action: () => void | Promise<void>) => {
      tail = tail.then(action);
      tail.catch(fail);
    };
    const write = () => {
      if (isWriting) return;
      isWriting = true;
      then(async () => {
        isWriting = false;
        tell(await book.write());
      });
    };
    const handle = (message: ToBook) => {
      switch (message.kind) {
        case 'issue':
          book.add(message.draft);
          write();
          break;
        case 'ask':
          then(async () => {
            const { ask, question } = message;
            try {
              const value: Answers[Question['kind']] = await answerTo(question, opened, book);
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
          then(async () => tell(await book.age(message.seconds)));
          break;
        case 'close':
          write();
          then(() => {
            store.close();
            port.close();
            end();
          });
          break;
      }
    };
    port.on('message', handle);
    port.postMessage({ kind: 'ready', key: signer.key });
    // As many as are to be kept now: there may be fewer than before.
    then(async () => tell(await book.age(0)));
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
