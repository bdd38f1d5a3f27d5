import { describe, expect, it } from 'vitest';
import { GREEDY } from '../request/sampling.ts';
import { Sequence } from '../scheduler/sequence.ts';
import { DraftControl } from './draft-control.ts';

const OPTIONS = { drafts: 4, lookupMin: 2, lookupMax: 4 };
const STEP_NS = 1e6;

let rows = 0;
/** A row that has said so many tokens, which repeat themselves or not. */
function row(tokens: number, repeats: boolean, sampling: Partial<typeof GREEDY> = {}): Sequence {
  const promptTokens = Uint32Array.from({ length: 8 }, (_, i) => i);
  const own = { ...GREEDY, maxTokens: 1000, ...sampling };
  const number = rows++;
  const request = { id: `${number}`, tenant: 't', promptTokens, sampling: own };
  const sequence = new Sequence(request, 0n, number, 0);
  for (let i = 0; i < tokens; i++) sequence.append(repeats ? i % 4 : 100 + i);
  return sequence;
}

function control(mostRows = 8, options = {}) {
  const draftedBucketOf = (count: number) => (count <= mostRows ? count : null);
  return new DraftControl({ options: { ...OPTIONS, ...options }, draftedBucketOf });
}

/** Launches of these rows, whose steps take so long with drafts. */
function launches(drafts: DraftControl, of: readonly Sequence[], count: number, cost: number) {
  return Array.from({ length: count }, () => {
    const drafted = drafts.draftsFor(of);
    const plan = { prefill: [], decode: of, steps: 2, drafts: drafted, pageWrites: [] };
    const deviceNs = 2 * STEP_NS * (drafted > 0 ? cost : 1);
    drafts.observe({ plan: { ...plan, grammarWrites: [] }, deviceNs });
    return drafted;
  });
}

/** Launches of one step of these rows, that take so long each. */
function observe(drafts: DraftControl, of: readonly Sequence[], timesNs: number[], more = {}) {
  const plain = { prefill: [], decode: of, steps: 1, drafts: 0 };
  const plan = { ...plain, pageWrites: [], grammarWrites: [], ...more };
  for (const deviceNs of timesNs) drafts.observe({ plan, deviceNs });
}

describe('whether a launch drafts', () => {
  it('does where text repeats itself, and not where it does not', () => {
    expect(control().draftsFor([row(30, true)])).toBe(4);
    expect(control().draftsFor([row(30, false)])).toBe(0);
    // Of four rows one that repeats itself brings a token each on average.
    const few = [row(30, true), row(30, false), row(30, false), row(30, false)];
    expect(control().draftsFor(few)).toBe(4);
  });

  it('tries nothing where text does not repeat itself', () => {
    const drafts = control();
    expect(new Set(launches(drafts, [row(30, false)], 500, 1.1))).toEqual(new Set([0]));
    expect(drafts.last).toEqual({
      drafts: 0,
      reason:
        'a step with 4 drafts is expected to bring 1.00 tokens a row, and takes 1.25 times as ' +
        'long as one without, until both were measured',
    });
  });

  it('weighs what drafts bring against what was measured', () => {
    const drafts = control();
    launches(drafts, [row(30, false)], 1, 1);
    const text = row(2, true);
    // About half a token more: worth a tenth of a step, and not a whole one.
    for (const token of [7, 0, 1, 2, 3, 9, 0, 1, 2, 3, 8]) text.append(token);
    const brings = Number(/bring (\S+) tokens/.exec(reasonOf(drafts, text))![1]);
    expect(brings).toBeGreaterThan(1.3);
    expect(brings).toBeLessThan(1.9);
    expect(launches(drafts, [text], 4, 1.1)).toEqual([4, 4, 4, 4]);
    const dear = control();
    launches(dear, [row(30, false)], 1, 1);
    expect(launches(dear, [text], 4, 2)).toEqual([4, 0, 0, 0]);
    expect(dear.last.reason).toContain('takes 2 ms instead of 1 ms');
  });

  it('measures again what may have been disturbed', () => {
    const drafts = control();
    const text = [row(30, true)];
    launches(drafts, [row(30, false)], 1, 1);
    expect(launches(drafts, text, 1, 50)).toEqual([4]);
    const later = launches(drafts, text, 34, 1.1);
    expect(later.slice(0, 32)).toEqual(Array(32).fill(0));
    expect(later.slice(32)).toEqual([4, 4]);
  });

  it('tries once in a while what never pays', () => {
    const drafts = control();
    const text = [row(30, true)];
    observe(drafts, text, [STEP_NS]);
    const waits = Array(32).fill(0);
    expect(launches(drafts, text, 34, 50)).toEqual([4, ...waits, 4]);
    expect(drafts.last.reason).toContain('; what the other kind takes is measured again');
    expect(launches(drafts, text, 34, 50)).toEqual([...waits, 4, 0]);
    expect(drafts.last.reason).not.toContain('again');
  });

  it('tries nothing for text that nobody believes in, whatever it doubted of others', () => {
    const drafts = control();
    const text = [row(30, true)];
    observe(drafts, text, [STEP_NS]);
    launches(drafts, text, 33, 50);
    expect(drafts.draftsFor([row(30, false)])).toBe(0);
  });

  it('keeps to what it believes while only one kind of step was measured', () => {
    const drafts = control();
    expect(launches(drafts, [row(30, true)], 5, 9)).toEqual(Array(5).fill(4));
    expect(drafts.last.reason).toContain('until both were measured');
  });

  it('wants more than what makes up for the cost', () => {
    // 1.275 tokens a step are what is believed of its cost and the margin, and no more.
    const drafts = control(8, { drafts: 1, chance: 0.275 });
    expect(new Set(launches(drafts, [row(1, false)], 40, 1))).toEqual(new Set([0]));
    expect(control(8, { drafts: 1, chance: 0.276 }).draftsFor([row(1, false)])).toBe(1);
  });

  it('goes by the median of the last seven steps of a kind', () => {
    const drafts = control();
    const text = [row(30, true)];
    observe(drafts, text, [STEP_NS], { drafts: 1 });
    const plain = (...timesMs: number[]) => {
      observe(
        drafts,
        text,
        timesMs.map((ms) => ms * STEP_NS),
      );
      drafts.draftsFor(text);
      return / instead of (.*)$/.exec(drafts.last.reason)![1];
    };
    expect(plain(9, 9, 9, 9, 9, 9, 9, 7, 6, 5, 4, 3, 2, 1)).toBe('4 ms');
    expect(plain(8, 8, 8, 8)).toBe('8 ms');
  });

  it('learns nothing from launches with prompts, nor from such as seem to take no time', () => {
    const drafts = control();
    const text = [row(30, true)];
    const [sequence] = text as [Sequence];
    const prefill = [{ sequence, epoch: 1, start: 0, length: 1, last: true }];
    observe(drafts, text, [STEP_NS], { drafts: 4 });
    observe(drafts, text, [STEP_NS], { prefill });
    observe(drafts, text, [0, -1]);
    drafts.draftsFor(text);
    expect(drafts.last.reason).toContain('until both were measured');
    observe(drafts, text, [1]);
    drafts.draftsFor(text);
    expect(drafts.last.reason).toContain('takes 1 ms instead of 0.000001 ms');
  });

  it('finds what stood far before, in as long a text as its row may get', () => {
    const text = row(3000, false, { maxTokens: 4000 });
    expect(control().draftsFor([text])).toBe(0);
    for (let i = 0; i < 12; i++) text.append(100 + i);
    expect(control().draftsFor([text])).toBe(4);
  });

  it('is not led on by a step without drafts that was disturbed', () => {
    const drafts = control();
    const disturbed = { prefill: [], decode: [], steps: 1, drafts: 0, pageWrites: [] };
    const plan = { ...disturbed, decode: [row(30, false)], grammarWrites: [] };
    drafts.observe({ plan, deviceNs: 3 * STEP_NS });
    launches(drafts, [row(30, true)], 3, 1.5);
    // Steps with drafts seem to take less time: no reason to make them for nothing.
    expect(launches(drafts, [row(30, false)], 10, 1.5)).toEqual(Array(10).fill(0));
    expect(drafts.last.reason).toContain('takes 1.5 ms instead of 1 ms');
    // Nor to make them for little, for long.
    const many = control(32);
    const few = [row(30, true), ...Array.from({ length: 19 }, () => row(30, false))];
    many.observe({ plan: { ...plan, decode: few }, deviceNs: 3 * STEP_NS });
    const all = few.map(() => row(30, true));
    expect(launches(many, all, 1, 1.5)).toEqual([4]);
    expect(launches(many, few, 40, 1.5)).toEqual([...Array(32).fill(4), ...Array(8).fill(0)]);
  });

  it('does not for rows whose tokens depend on more than those before them', () => {
    const drafts = control();
    expect(drafts.draftsFor([row(30, true, { frequencyPenalty: 1 })])).toBe(0);
    expect(drafts.draftsFor([row(30, true, { logprobs: 0 })])).toBe(0);
    const text = row(30, true);
    const grammar = { digest: 'g', words: new Uint32Array(64) };
    const held = new Sequence({ ...text.request, grammar }, 0n, 0, 0);
    for (const token of text.tokens(text.promptLength)) held.append(token);
    expect(drafts.draftsFor([held])).toBe(0);
    expect(drafts.draftsFor([text])).toBe(4);
  });

  it('does not where steps have no drafts, and always where that is wanted', () => {
    const drafts = control(1);
    expect(drafts.last).toEqual({ drafts: 0, reason: 'no row has decoded yet' });
    expect(drafts.draftsFor([row(30, true), row(30, true)])).toBe(0);
    const reason = 'steps of 2 rows have no drafts: they would cost too much';
    expect(drafts.last).toEqual({ drafts: 0, reason });
    expect(control(8, { always: true }).draftsFor([row(30, false)])).toBe(4);
  });
});

function reasonOf(drafts: DraftControl, text: Sequence): string {
  drafts.draftsFor([text]);
  return drafts.last.reason;
}
