import { createHash } from 'node:crypto';

/** What must hold, by name. */
const INVARIANTS = {
  'ends-once': 'an accepted request ends exactly once, and nothing comes after its end',
  'tokens-right': 'tokens are those that the prompt, and the seed, alone lead to',
  'ledger-true': 'the ledger has what the device counted, no more and no less',
  'pages-kept': 'no page of KV is lost, given twice, or shared across tenants',
  'receipt-kept': 'a receipt that was kept is there, as it was, whatever ended since',
  'receipt-promised': 'each id of a receipt that was handed out leads to one, where no disk failed',
  'chain-whole': 'the chain of receipts is whole, and signed by one key',
  'quota-kept': 'no key has more open, or gets more, than its limits say',
  fair: 'keys that wait are served alike',
  bounded: 'queues, sockets and memory are bounded',
  live: 'without faults every request is answered in time',
  orderly: 'no promise of the code is broken, and no error is left to nobody',
  answers: 'each answer is one that the API has for what was asked',
  'weights-sealed':
    'an engine has the weights of its manifest, whole, and a load leaves nothing open',
  exclusive: 'a GPU has one guest at a time, the one that is written down, and each is begun once',
  admitted: 'nothing serves before it has answered a fresh challenge',
  fenced: 'who was replaced changes nothing',
  acknowledged: 'what was acknowledged stays',
  'fabric-kept':
    'guests get their exact partition, reset since the last, and the log says so first',
  'log-grows': 'events and logs only grow',
  drained: 'what drains ends no stream before its time',
  'stops-in-time': 'a server that is told to stop ends in time, and tells those it leaves',
} as const;

export type InvariantName = keyof typeof INVARIANTS;

export interface Violation {
  readonly invariant: InvariantName;
  readonly what: string;
  readonly atNs: number;
}

/** What happened, for reading and for its digest, and what must not have. */
export class Judge {
  readonly violations: Violation[] = [];
  /** Kept where somebody wants to read it. */
  readonly history: string[] | null;
  readonly coverage = new Map<string, number>();
  readonly #hash = createHash('sha256');
  readonly #nowNs: () => number;
  readonly #onViolation: () => void;

  constructor(nowNs: () => number, keepsHistory: boolean, onViolation: () => void) {
    this.#nowNs = nowNs;
    this.history = keepsHistory ? [] : null;
    this.#onViolation = onViolation;
  }

  note(line: string): void {
    const text = `${this.#nowNs()} ${line}`;
    this.#hash.update(text).update('\n');
    this.history?.push(text);
  }

  /** Something was reached. */
  reached(what: string): void {
    this.coverage.set(what, (this.coverage.get(what) ?? 0) + 1);
  }

  violated(invariant: InvariantName, what: string): void {
    this.note(`VIOLATION ${invariant}: ${what}`);
    this.violations.push({ invariant, what, atNs: this.#nowNs() });
    this.#onViolation();
  }

  require(holds: boolean, invariant: InvariantName, what: () => string): void {
    if (!holds) this.violated(invariant, what());
  }

  digest(): string {
    return this.#hash.copy().digest('hex');
  }
}
