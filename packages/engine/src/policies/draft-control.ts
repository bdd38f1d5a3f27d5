import { usesPenalties } from '../request/sampling.ts';
import type { StepPlan } from '../scheduler/plan.ts';
import type { Sequence } from '../scheduler/sequence.ts';
import type { NgramOptions } from '../speculation/ngram.ts';
import { acceptedOf, Repetition } from '../speculation/repetition.ts';
import { milliseconds } from './estimate.ts';

/** What a step with drafts takes, in steps without, until both were measured. */
const BELIEVED_COST = 1.25;
/** Drafts must bring more than they cost by this factor. */
const MARGIN = 1.02;
/**
 * Where what was measured says otherwise than what is believed at first, the other kind of step is
 * measured again after so many launches: one that was disturbed must not be the last word.
 */
const LAUNCHES_UNTIL_ANOTHER_TRY = 32;
/** Launches whose steps are remembered. */
const REMEMBERED = 7;

export interface DraftParts {
  readonly options: NgramOptions;
  /** Rows of the captured step that serves so many; null: none of these has drafts. */
  readonly draftedBucketOf: (rows: number) => number | null;
}

/** What the last steps of one kind took. One that was disturbed does not count. */
class StepTimes {
  readonly #times: number[] = [];

  observe(ns: number): void {
    this.#times.push(ns);
    if (this.#times.length > REMEMBERED) this.#times.shift();
  }

  /** The median; null: none was observed. */
  get ns(): number | null {
    const sorted = this.#times.toSorted((a, b) => a - b);
    return sorted[(sorted.length - 1) >> 1] ?? null;
  }
}

/** Of steps without drafts, and with them. */
interface Costs {
  readonly plain: StepTimes;
  readonly drafted: StepTimes;
  /** Launches since the last try for which what was measured decided otherwise than belief. */
  doubts: number;
}

/**
 * Whether the next launch drafts. A step with drafts takes longer than one without, by a factor
 * that is measured for each batch size, and brings more tokens: as many as the text of its rows
 * repeats itself. That is learnt from all tokens that come, whether something was drafted for them
 * or not (`Repetition`), so that nothing has to be tried where text does not repeat.
 */
export class DraftControl {
  readonly #parts: DraftParts;
  readonly #costs = new Map<number, Costs>();
  readonly #texts = new WeakMap<Sequence, Repetition>();
  #now: () => { readonly drafts: number; readonly reason: string };

  constructor(parts: DraftParts) {
    this.#parts = parts;
    this.#now = () => ({ drafts: 0, reason: 'no row has decoded yet' });
  }

  /** Tokens that the last launch of decoding rows drafted for each of them, and why so many. */
  get last(): { readonly drafts: number; readonly reason: string } {
    return this.#now();
  }

  /** Tokens to draft for each of these rows: those of the options, or none. */
  readonly draftsFor = (rows: readonly Sequence[]): number => {
    const { options, draftedBucketOf } = this.#parts;
    const bucket = draftedBucketOf(rows.length);
    if (bucket === null) {
      const reason = `steps of ${rows.length} rows have no drafts: they would cost too much`;
      this.#now = () => ({ drafts: 0, reason });
      return 0;
    }
    const accepted = rows.reduce((sum, row) => sum + this.#acceptedOf(row), 0);
    const tokens = 1 + accepted / rows.length;
    const costs = this.#costsOf(bucket);
    const plainNs = costs.plain.ns;
    const draftedNs = costs.drafted.ns;
    const isKnown = plainNs !== null && draftedNs !== null;
    // More lines never take less time, whatever was measured.
    const cost = isKnown ? Math.max(1, draftedNs / plainNs) : BELIEVED_COST;
    const pays = tokens > MARGIN * cost;
    const isDoubtful = pays !== tokens > MARGIN * BELIEVED_COST;
    const isTry = isDoubtful && costs.doubts >= LAUNCHES_UNTIL_ANOTHER_TRY;
    if (isTry) costs.doubts = 0;
    else if (isDoubtful) costs.doubts += 1;
    const drafts = options.always === true || pays !== isTry ? options.drafts : 0;
    this.#now = () => {
      const brings = `is expected to bring ${tokens.toFixed(2)} tokens a row`;
      const takes = isKnown
        ? `${milliseconds(draftedNs)} instead of ${milliseconds(plainNs)}`
        : `${BELIEVED_COST} times as long as one without, until both were measured`;
      const why = isTry ? '; what the other kind takes is measured again' : '';
      const reason = `a step with ${options.drafts} drafts ${brings}, and takes ${takes}${why}`;
      return { drafts, reason };
    };
    return drafts;
  };

  #acceptedOf(row: Sequence): number {
    if (!canBeDrafted(row)) return 0;
    const { options } = this.#parts;
    if (options.chance !== undefined) return acceptedOf(options.chance, options.drafts);
    let text = this.#texts.get(row);
    if (text === undefined) {
      text = new Repetition(options.lookupMin, row.promptLength + row.request.sampling.maxTokens);
      this.#texts.set(row, text);
    }
    text.follow(row.tokens(), row.promptLength);
    return text.acceptedOf(options.drafts);
  }

  #costsOf(bucket: number): Costs {
    const known = this.#costs.get(bucket);
    if (known !== undefined) return known;
    const costs = { plain: new StepTimes(), drafted: new StepTimes(), doubts: 0 };
    this.#costs.set(bucket, costs);
    return costs;
  }

  /** Learns from a committed launch what its steps took. */
  observe({ plan, deviceNs }: { readonly plan: StepPlan; readonly deviceNs: number }): void {
    const { decode, prefill, steps, drafts } = plan;
    // Two launches whose end is noticed at once: the second seems to have taken no time.
    if (prefill.length > 0 || deviceNs <= 0) return;
    const bucket = this.#parts.draftedBucketOf(decode.length);
    if (bucket === null) return;
    const { plain, drafted } = this.#costsOf(bucket);
    (drafts > 0 ? drafted : plain).observe(deviceNs / steps);
  }
}

/** Whether what its tokens are drawn from depends on nothing but the tokens before them. */
function canBeDrafted({ request: { grammar, sampling } }: Sequence): boolean {
  return grammar === undefined && sampling.logprobs === undefined && !usesPenalties(sampling);
}
