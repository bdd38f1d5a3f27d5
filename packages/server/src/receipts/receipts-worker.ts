import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import type { ReceiptSigner } from '@bridgekeeper/attest';
import { ReceiptBook } from './book.ts';
import { ReceiptsError } from './errors.ts';
import type { Answers, FromBook, Question, ReceiptsThreadData, ToBook } from './messages.ts';
import { own } from './owner.ts';
import { ephemeralSigner, signerFromFile } from './signing-key.ts';
import { ReceiptStore } from './store.ts';

const port = parentPort!;
const post = (message: FromBook) => port.postMessage(message);

interface Opened {
  readonly store: ReceiptStore;
  readonly signer: ReceiptSigner;
  readonly close: () => void;
}

function open({ path }: ReceiptsThreadData): Opened {
  if (path === null) {
    const store = new ReceiptStore(null);
    return { store, signer: ephemeralSigner(), close: () => store.close() };
  }
  makeFolder(dirname(path));
  const giveBack = own(path);
  try {
    const signer = signerFromFile(`${path}.key`);
    const store = new ReceiptStore(path);
    const close = () => {
      store.close();
      giveBack();
    };
    return { store, signer, close };
  } catch (error) {
    giveBack();
    throw error;
  }
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new ReceiptsError('bad-file', `cannot make ${folder} (${code})`, { cause });
  }
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

/** Messages are handled one after the other; drafts that come meanwhile are written together. */
function serve(opened: Opened, data: ReceiptsThreadData): void {
  const { store, signer } = opened;
  const { retention } = data;
  const book = new ReceiptBook({ store, signer, retention });
  store.prune(retention, data.nowSeconds);
  let tail = Promise.resolve();
  let isWriting = false;
  const then = (action: () => Promise<void>) => {
    tail = tail.then(action);
  };
  const write = async () => {
    isWriting = false;
    post({ kind: 'wrote', result: await book.write() });
  };
  const handle = (message: ToBook) => {
    switch (message.kind) {
      case 'issue':
        book.add(message.draft);
        if (!isWriting) then(write);
        isWriting = true;
        break;
      case 'ask':
        then(async () => {
          const value: Answers[Question['kind']] = await answerTo(message.question, opened, book);
          post({ kind: 'answer', ask: message.ask, value });
        });
        break;
      case 'prune':
        then(async () => store.prune(retention, message.nowSeconds));
        break;
      case 'close':
        then(write);
        then(async () => {
          opened.close();
          port.close();
        });
        break;
    }
  };
  port.on('message', handle);
  post({ kind: 'ready', key: signer.key });
}

try {
  const data = workerData as ReceiptsThreadData;
  serve(open(data), data);
} catch (error) {
  if (!(error instanceof ReceiptsError)) throw error;
  post({ kind: 'refused', code: error.code, message: error.message });
}
