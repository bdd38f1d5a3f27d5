import type { InvariantName } from '../world/judge.ts';

/** A bug that is put into the compiled product: text of a file, and what stands there instead. */
export interface Mutant {
  readonly name: string;
  readonly what: string;
  /** Within `packages/`. */
  readonly file: string;
  /** Is there exactly once. */
  readonly find: string;
  readonly replace: string;
  /** What of the product's promises it may break. */
  readonly breaks: readonly InvariantName[];
}

/** Twenty bugs of kinds that happen. A simulation that does not find them proves nothing. */
export const MUTANTS: readonly Mutant[] = [
  {
    name: 'page-freed-twice',
    what: 'a page of a request that ends is given back twice',
    file: 'engine/dist/kv/prefix-tree.js',
    find: 'this.#shelves[DEVICE].giveBack(page);\n                this.#ownPages -= 1;',
    replace:
      'this.#shelves[DEVICE].giveBack(page);\n' +
      '                if (index === 0) this.#shelves[DEVICE].giveBack(page);\n' +
      '                this.#ownPages -= 1;',
    breaks: ['pages-kept', 'tokens-right', 'orderly'],
  },
  {
    name: 'page-leaked',
    what: 'the first page of a request that shares none is not given back',
    file: 'engine/dist/kv/prefix-tree.js',
    find: 'if (node?.at[DEVICE] !== page) {\n                this.#shelves[DEVICE].giveBack(page);',
    replace:
      'if (node?.at[DEVICE] !== page) {\n' +
      '                if (index > 0) this.#shelves[DEVICE].giveBack(page);',
    breaks: ['pages-kept', 'live', 'orderly'],
  },
  {
    name: 'prefix-across-tenants',
    what: 'a cached prefix is found by its tokens alone, whoever left it',
    file: 'engine/dist/kv/page-key.js',
    find: ".update('tenant\\0').update(tenant)",
    replace: ".update('tenant\\0')",
    breaks: ['pages-kept'],
  },
  {
    name: 'prefix-found-too-early',
    what: 'pages count as computed that the next launches are to compute',
    file: 'engine/dist/kv/prefix-tree.js',
    find: 'const full = Math.floor(Math.min(computed, sequence.length) / this.#pageTokens);',
    replace:
      'const full = Math.floor(Math.min(computed + 4 * this.#pageTokens, sequence.length) / ' +
      'this.#pageTokens);',
    breaks: ['tokens-right', 'orderly', 'pages-kept'],
  },
  {
    name: 'wake-up-lost',
    what: 'an engine that is idle is not woken by a request',
    file: 'engine/dist/engine.js',
    find:
      'this.#shares.arrived(sequence);\n        this.#parts.policy.hurry();\n' +
      '        this.#wake?.();',
    replace: 'this.#shares.arrived(sequence);\n        this.#parts.policy.hurry();',
    breaks: ['live'],
  },
  {
    name: 'late-results-accepted',
    what: 'results of a row’s earlier occupant are taken for those of the one that has it now',
    file: 'engine/dist/scheduler/scheduler.js',
    find: 'if (sequence === undefined || sequence.epoch !== result.epoch)',
    replace: 'if (sequence === undefined)',
    breaks: ['tokens-right', 'ends-once', 'answers', 'orderly'],
  },
  {
    name: 'preempted-as-computed',
    what: 'a request that lost its pages goes on as if they were there',
    file: 'engine/dist/scheduler/scheduler.js',
    find: 'sequence.computed = found;',
    replace: 'sequence.computed = sequence.preemptions > 0 ? sequence.length - 1 : found;',
    breaks: ['tokens-right', 'orderly', 'pages-kept'],
  },
  {
    name: 'activated-without-reset',
    what: 'a row is given on with the page table of who had it before',
    file: 'engine/dist/runner/step-command.js',
    find: 'for (const { sequence, first, count, isWindow } of plan.pageWrites) {',
    replace: 'for (const { sequence, first, count, isWindow } of plan.pageWrites.slice(1)) {',
    breaks: ['tokens-right'],
  },
  {
    name: 'unfair-queue',
    what: 'the key that had the most goes next',
    file: 'engine/dist/scheduler/fair-queue.js',
    find: 'return a.served < b.served;',
    replace: 'return a.served > b.served;',
    breaks: ['fair', 'live'],
  },
  {
    name: 'spare-rows-owed',
    what: 'a key owes for rows that no other wanted, while one with a slow answer earns',
    file: 'engine/dist/scheduler/fair-queue.js',
    find: 'account.served = Math.max(account.served, this.#floor);',
    replace: '',
    breaks: ['fair'],
  },
  {
    name: 'rows-of-a-key-unlimited',
    what: 'a key has one row more than it may',
    file: 'engine/dist/scheduler/fair-queue.js',
    find: 'return head !== undefined && rows < maxRowsOf(head);',
    replace: 'return head !== undefined && rows <= maxRowsOf(head);',
    breaks: ['quota-kept'],
  },
  {
    name: 'receipts-before-fsync',
    what: 'the database of receipts does not wait for the disk',
    file: 'server/dist/receipts/store.js',
    find: "if (this.#pragma('page_count') === 0)",
    replace:
      "this.#database.exec('PRAGMA synchronous = OFF');\n" +
      "                if (this.#pragma('page_count') === 0)",
    breaks: ['receipt-kept', 'receipt-promised', 'chain-whole', 'orderly'],
  },
  {
    name: 'journal-left',
    what: 'a transaction of receipts that was left unfinished is not taken back',
    file: 'server/dist/receipts/journal.js',
    find: 'if (journal === null)',
    replace: 'if (journal !== 0)',
    breaks: ['receipt-kept', 'chain-whole', 'orderly', 'live'],
  },
  {
    name: 'receipt-denied',
    what: 'a gateway says that there is no receipt where a replica did not say whether there is',
    file: 'gateway/dist/http/locate.js',
    find: 'areSure &&= saysNo(status);',
    replace: '',
    breaks: ['receipt-kept', 'receipt-promised'],
  },
  {
    name: 'head-before-receipts',
    what: 'the chain’s end is signed before the receipts are on the disk',
    file: 'server/dist/receipts/book.js',
    find: 'store.append(rows);\n                this.#head = rows.at(-1).sealed.head;',
    replace:
      'this.#head = rows.at(-1).sealed.head;\n                await this.#writeHead();\n' +
      '                store.append(rows);',
    breaks: ['receipt-kept', 'chain-whole', 'orderly', 'receipt-promised'],
  },
  {
    name: 'head-renamed-before-fsync',
    what: 'the chain’s end is renamed into its place before its bytes are on the disk',
    file: 'server/dist/receipts/head-file.js',
    find: 'mode: 0o600, flush: true });',
    replace: 'mode: 0o600 });',
    breaks: ['orderly', 'chain-whole', 'receipt-kept'],
  },
  {
    name: 'receipt-shown-before-kept',
    what: 'receipts are told to be written that only wait to be',
    file: 'server/dist/receipts/book.js',
    find: 'const batch = this.#waiting.slice(0, BATCH_MAX);',
    replace: 'const batch = this.#waiting.splice(0, BATCH_MAX);',
    breaks: ['receipt-promised', 'receipt-kept'],
  },
  {
    name: 'stream-ended-twice',
    what: 'the end of a stream is written again where tokens come with it',
    file: 'server/dist/openai/sse.js',
    find: "this.#end(text + this.#format.closing(this.#generation), 'complete');",
    replace:
      "this.#end(text + this.#format.closing(this.#generation) + (text === '' ? '' : " +
      "this.#format.closing(this.#generation)), 'complete');",
    breaks: ['ends-once'],
  },
  {
    name: 'answers-not-woken',
    what: 'of answers that have news in one turn, the last is not written',
    file: 'server/dist/openai/wake-queue.js',
    find: 'for (const listener of waiting)\n            listener.wake();',
    replace:
      'const first = [...waiting].slice(0, Math.max(1, waiting.size - 1));\n' +
      '        for (const listener of first)\n            listener.wake();',
    breaks: ['live'],
  },
  {
    name: 'stream-never-unblocked',
    what: 'a stream whose client has caught up is still taken for blocked',
    file: 'server/dist/openai/sse.js',
    find: 'this.#blocked = false;\n        this.#outgoing.setTimeout(0);',
    replace: 'this.#outgoing.setTimeout(0);',
    breaks: ['live'],
  },
  {
    name: 'ended-counts-as-open',
    what: 'a request that has ended still takes its place in the queue',
    file: 'server/dist/engine/threaded-engine.js',
    find: 'if (event.finish !== undefined)\n            this.#open.delete(event.id);',
    replace:
      "if (event.finish !== undefined && event.finish.reason !== 'length')\n" +
      '            this.#open.delete(event.id);',
    breaks: ['quota-kept', 'live', 'ends-once'],
  },
  {
    name: 'crossing-not-written-down',
    what: 'drains of more than one line are not in the ledger',
    file: 'engine/dist/traffic/traffic.js',
    find: 'this.#ledger.record(record);\n        this.#onCrossing?.(record);',
    replace:
      "if (record.purpose !== 'tokens' || record.bytes < 100) this.#ledger.record(record);\n" +
      '        this.#onCrossing?.(record);',
    breaks: ['ledger-true'],
  },
  {
    name: 'restore-not-waited-for',
    what: 'pages count as restored when they were asked for',
    file: 'engine/dist/kv/prefix-tree.js',
    find: 'const isReady = (node) => node.at[DEVICE] !== NOWHERE && node.arrival === null;',
    replace: 'const isReady = (node) => node.at[DEVICE] !== NOWHERE;',
    breaks: ['tokens-right', 'orderly'],
  },
  {
    name: 'spilled-elsewhere',
    what: 'a page that is spilled is looked for in its neighbour’s slot',
    file: 'engine/dist/mover/host-store.js',
    find: 'const number = slot * piecesOfSlot + piece.index;',
    replace: 'const number = (slot + (slot % 7 === 3 ? 1 : 0)) * piecesOfSlot + piece.index;',
    breaks: ['tokens-right'],
  },
  {
    name: 'stop-blames-engine',
    what: 'a server that stops says of what its engine was still at that the engine failed',
    file: 'server/dist/http/lifecycle.js',
    find: "if (this.#stopping) {\n            return new ApiError('shutting_down',",
    replace: "if (this.#failure) {\n            return new ApiError('shutting_down',",
    breaks: ['answers'],
  },
  {
    name: 'stop-cuts-streams',
    what: 'a server that is told to stop ends all of its connections, and not those at rest',
    file: 'server/dist/http/http-server.js',
    find: 'this.#server.close();\n        this.#server.closeIdleConnections();',
    replace: 'this.#server.close();\n        this.#server.closeAllConnections();',
    breaks: ['stops-in-time'],
  },
  {
    name: 'digests-not-compared',
    what: 'weights are taken whatever their digests are',
    file: 'engine/dist/loader/paths/digests.js',
    find: 'if (found === expectedDigest(this.#seal, fileIndex, chunkIndex))',
    replace: 'if (found.length === expectedDigest(this.#seal, fileIndex, chunkIndex).length)',
    breaks: ['weights-sealed'],
  },
  {
    name: 'short-read-taken-for-whole',
    what: 'a read that brought less than was asked for counts as all of it',
    file: 'engine/dist/checkpoint/chunk-file.js',
    find: 'done += count;',
    replace: 'done += length;',
    breaks: ['orderly', 'live', 'weights-sealed'],
  },
  {
    name: 'weights-left-open',
    what: 'threads that have read weights keep the files open',
    file: 'engine/dist/loader/reading/serve-reads.js',
    find: 'for (const file of this.#opened.values())\n            file.close();',
    replace: '',
    breaks: ['weights-sealed'],
  },
];
