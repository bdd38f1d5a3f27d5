import type { StepPlan } from '../scheduler/plan.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';
import type { Sequence } from '../scheduler/sequence.ts';

/** Called where an owner was given a row before its turn. */
export type OnUnfair = (what: string) => void;

interface Owner {
  /** Requests in rows, at the last look: since then, some may have ended. */
  rows: number;
  /** Tokens over its weight that were computed for it since it was given a row last. */
  sinceRow: number;
}

/** A request waits, and its owner has no row. */
interface Wait {
  readonly witness: Sequence;
  /** Rows that had been given in all when that began. */
  readonly rowsGiven: number;
  /** By owner: tokens over its weight of requests that were given rows since. */
  readonly had: Map<string, number>;
}

/**
 * Holds a scheduler to its promise of fairness, from without: while a request waits whose owner
 * has no row, each other owner is given rows only until these requests have had as much as the
 * owner that waits had since it was given a row itself.
 *
 * That follows from how rows are given: to the least served of those that could have one, which
 * begin with no less than who was given the last. When the owner that waits was given a row, none
 * that could go had had less, then or later. So what it had since is how far it can be ahead of
 * another, and who is given rows meanwhile makes up for that, and gets no more once it is ahead.
 *
 * What others have in rows that they were given in time is not limited: answers are of any length.
 * Each token counts once, when a launch first computes it, and those that were found do not.
 */
export class FairWatch {
  readonly #scheduler: Scheduler;
  readonly #onUnfair: OnUnfair;
  readonly #owners = new Map<string, Owner>();
  readonly #waits = new Map<string, Wait>();
  /** Of requests: their epoch, and how many rows had been given before theirs. */
  readonly #given = new WeakMap<Sequence, { readonly epoch: number; readonly rowsGiven: number }>();
  /** Tokens of requests that need not count any more. */
  readonly #counted = new WeakMap<Sequence, number>();
  #rowsGiven = 0;
  #runningThen = 0;

  /** To be made before the scheduler has anything. */
  constructor(scheduler: Scheduler, onUnfair: OnUnfair) {
    this.#scheduler = scheduler;
    this.#onUnfair = onUnfair;
    const add = scheduler.add.bind(scheduler);
    scheduler.add = (sequence) => {
      add(sequence);
      if (this.#ownerOf(sequence).rows === 0) this.#begin(sequence);
    };
    const plan = scheduler.plan.bind(scheduler);
    scheduler.plan = (...options) => {
      if (scheduler.waiting > 0 && scheduler.running !== this.#runningThen) this.#look();
      const before = scheduler.waiting - scheduler.counters.preemptions;
      const made = plan(...options);
      if (scheduler.waiting - scheduler.counters.preemptions !== before) this.#look();
      for (const { sequence, start, length } of made.prefill) {
        this.#count(sequence, start, start + length);
      }
      return made;
    };
    const commit = scheduler.commit.bind(scheduler);
    scheduler.commit = (made, ...results) => {
      const sequences = sequencesOf(made);
      const lengths = sequences.map(({ length }) => length);
      const events = commit(made, ...results);
      for (const [at, each] of sequences.entries()) this.#count(each, lengths[at]!, each.length);
      return events;
    };
  }

  #ownerOf(sequence: Sequence): Owner {
    const name = nameOf(sequence);
    let owner = this.#owners.get(name);
    if (owner === undefined) {
      owner = { rows: 0, sinceRow: 0 };
      this.#owners.set(name, owner);
    }
    return owner;
  }

  #begin(witness: Sequence): void {
    const name = nameOf(witness);
    if (this.#waits.get(name)?.witness.phase === 'waiting') return;
    this.#waits.set(name, { witness, rowsGiven: this.#rowsGiven, had: new Map() });
  }

  /** Sees who was given a row, and who waits without one. */
  #look(): void {
    const open = this.#scheduler.open();
    this.#runningThen = this.#scheduler.running;
    for (const owner of this.#owners.values()) owner.rows = 0;
    const given: Sequence[] = [];
    for (const sequence of open) {
      if (sequence.phase === 'waiting') {
        const counted = this.#counted.get(sequence) ?? 0;
        this.#counted.set(sequence, Math.max(counted, sequence.charged));
        continue;
      }
      this.#ownerOf(sequence).rows += 1;
      if (this.#given.get(sequence)?.epoch !== sequence.epoch) given.push(sequence);
    }
    for (const [name, { witness }] of this.#waits) {
      if (witness.phase !== 'waiting' || this.#owners.get(name)!.rows > 0) this.#waits.delete(name);
    }
    for (const sequence of given) {
      this.#judge(sequence);
      this.#given.set(sequence, { epoch: sequence.epoch, rowsGiven: this.#rowsGiven });
    }
    for (const sequence of given) this.#ownerOf(sequence).sinceRow = 0;
    this.#rowsGiven += given.length;
    for (const sequence of open) {
      if (sequence.phase === 'waiting' && this.#ownerOf(sequence).rows === 0) this.#begin(sequence);
    }
  }

  /** It was given a row: may it have been, before those that wait? */
  #judge(sequence: Sequence): void {
    const name = nameOf(sequence);
    for (const [other, { had }] of this.#waits) {
      if (other === name) continue;
      const its = had.get(name) ?? 0;
      const { sinceRow } = this.#owners.get(other)!;
      if (its <= sinceRow + ROUNDING) continue;
      this.#onUnfair(
        `a key waits without a row, and another is given one that had ${its} tokens since, ` +
          `where the first had ${sinceRow} since it was given its own`,
      );
    }
  }

  /** Tokens [from, to) of it were computed. */
  #count(sequence: Sequence, from: number, to: number): void {
    const begin = Math.max(from, this.#counted.get(sequence) ?? 0);
    if (to <= begin) return;
    this.#counted.set(sequence, to);
    const tokens = (to - begin) / (sequence.request.share?.weight ?? 1);
    this.#ownerOf(sequence).sinceRow += tokens;
    const name = nameOf(sequence);
    const rowsGiven = this.#given.get(sequence)?.rowsGiven ?? 0;
    for (const wait of this.#waits.values()) {
      if (rowsGiven < wait.rowsGiven) continue;
      wait.had.set(name, (wait.had.get(name) ?? 0) + tokens);
    }
  }
}

/** Of sums of tokens over weights that are powers of two or near. */
const ROUNDING = 1e-6;

function nameOf({ request }: Sequence): string {
  return request.share?.owner ?? request.tenant;
}

function sequencesOf({ prefill, decode }: StepPlan): readonly Sequence[] {
  return prefill.length === 0 ? decode : [...prefill.map(({ sequence }) => sequence), ...decode];
}
