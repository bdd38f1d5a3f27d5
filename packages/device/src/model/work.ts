import type { Roofline } from '@bridgekeeper/bridge';
import {
  type Attended,
  type AttentionArgs,
  attendedBy,
  attentionCost,
  type OpCost,
  opCost,
} from '../cost.ts';
import {
  bytesPerElement,
  type ElementType,
  isSlice,
  isSliceList,
  type Launch,
  type Slice,
} from '../device.ts';
import { collectiveNs, type Links } from '../law/links.ts';
import { isCollective, type OpArgs, type OpName } from '../ops.ts';
import { bookkeepingOf, type MadeUpDrafts } from './bookkeeping.ts';
import type { Chains } from './chains.ts';
import { bufferOf, wordsOf } from './memory.ts';

/** Operations in a row, priced as far as they can be before they run. */
export interface Work {
  readonly operations: number;
  /** What of it does not depend on memory. */
  readonly fixedNs: number;
  readonly bookkeeping: (() => void) | null;
  /** Priced when it runs, by the positions it then finds. */
  readonly attention: AttentionArgs | null;
  /** Attentions like it, one for each layer of its kind. */
  readonly attentions: number;
}

/** Operations one after the other, each for itself. */
export interface WorkList {
  readonly works: readonly Work[];
  /** What each takes; below 0 where it depends on memory, or changes it. */
  readonly knownNs: Float64Array;
}

/** By how much kernels over so many lines were measured to take longer than the roofline says. */
export interface ReachedPoint {
  readonly lines: number;
  readonly factor: number;
}

export interface PricingOptions {
  /** What each kernel adds beside its own time. */
  readonly nodeNs: number;
  readonly memoryBoundSlowdown: number;
  /** By lines, ascending; empty: they take as long as it says. */
  readonly reached: readonly ReachedPoint[];
  /** To the other ranks; null: there are none. */
  readonly links: Links | null;
  /** What tokens are made from; null: from their rows' seeds alone. */
  readonly chains: Chains | null;
  /** null: drafts are looked up. */
  readonly drafts: MadeUpDrafts | null;
}

/** Linear between the points, constant outside them; 1 where there are none. */
export function reachedFactor(points: readonly ReachedPoint[], lines: number): number {
  let above = 0;
  while (above < points.length && points[above]!.lines < lines) above += 1;
  if (above === points.length) return points.at(-1)?.factor ?? 1;
  if (above === 0) return points[0]!.factor;
  const [low, high] = [points[above - 1]!, points[above]!];
  const share = (lines - low.lines) / (high.lines - low.lines);
  return low.factor + (high.factor - low.factor) * share;
}

const NO_WORK: OpCost = { bytes: 0, operations: 0 };

/** Operations whose price is kept. */
const COMPILED_MAX = 32_768;

/** The modelled GPU's speed: a kernel takes as long as its bytes, arithmetic or start does. */
export class WorkPricer {
  readonly #element: ElementType;
  readonly #roofline: Roofline;
  readonly #options: PricingOptions;
  /** Of the batches that memory describes now. */
  readonly #attended: { readonly of: AttentionArgs; readonly seen: Attended }[] = [];
  /** Attentions over them, and what each takes; layers alike are the same work again. */
  readonly #attentions: Work[] = [];
  readonly #attentionsNs: number[] = [];
  /** By their arguments: engines launch the same ones again. */
  readonly #compiled = new Map<object, Work>();
  /** By their lists. */
  #lists = new WeakMap<readonly Launch[], WorkList>();

  constructor(element: ElementType, roofline: Roofline, options: PricingOptions) {
    this.#element = element;
    this.#roofline = roofline;
    this.#options = options;
  }

  /** Prices one operation. Throws DeviceError `bad-argument` for memory that is not there. */
  compile<Name extends OpName>(name: Name, args: OpArgs[Name]): Work {
    let work = this.#compiled.get(args);
    if (work === undefined) {
      work = this.#price(name, args);
      // A weak map of as many makes collecting garbage slow.
      if (this.#compiled.size === COMPILED_MAX) this.#compiled.clear();
      this.#compiled.set(args, work);
    }
    return work;
  }

  /** The same of a list, which is kept. */
  compileEach(launches: readonly Launch[]): WorkList {
    let list = this.#lists.get(launches);
    if (list === undefined) {
      // Layers alike may be the same launches again.
      const priced = new Map<object, Work>();
      const works = launches.map(({ name, args }) => {
        let work = priced.get(args);
        if (work === undefined) {
          work = this.#price(name, args);
          priced.set(args, work);
        }
        return work;
      });
      const isKnown = ({ bookkeeping, attention }: Work) =>
        bookkeeping === null && attention === null;
      const knownNs = works.map((work) => (isKnown(work) ? this.runOne(work) : -1));
      list = { works, knownNs: Float64Array.from(knownNs) };
      this.#lists.set(launches, list);
    }
    return list;
  }

  /** What was priced may be of memory that is not there any more. */
  memoryFreed(): void {
    this.#compiled.clear();
    this.#lists = new WeakMap();
  }

  #price<Name extends OpName>(name: Name, args: OpArgs[Name]): Work {
    for (const field in args) {
      const value: unknown = args[field];
      if (isSlice(value)) bufferOf(value);
      if (isSliceList(value)) value.forEach(bufferOf);
    }
    const bookkeeping = bookkeepingOf(name, args, this.#options.chains, this.#options.drafts);
    if (name === 'attention' || name === 'latent-attention') {
      const attention = args as AttentionArgs;
      return { operations: 1, fixedNs: 0, bookkeeping, attention, attentions: 1 };
    }
    const cost = opCost(name, args, this.#element, wordsOf);
    const lines = 'count' in args ? args.count : 1;
    const linkNs = this.#linkNs(name, args);
    // What comes over links is slower than memory, which is read and written meanwhile.
    const fixedNs =
      linkNs === 0
        ? this.#kernelNs(cost, lines)
        : (this.#options.links?.startNs ?? this.#kernelNs(NO_WORK, lines)) + linkNs;
    return { operations: 1, fixedNs, bookkeeping, attention: null, attentions: 0 };
  }

  /** What a collective takes on its way between the ranks. */
  #linkNs<Name extends OpName>(name: Name, args: OpArgs[Name]): number {
    const { links } = this.#options;
    if (links === null || !isCollective(name)) return 0;
    const { count, width } = args as OpArgs['all-reduce'];
    const wordBytes = name === 'all-gather' ? 4 : bytesPerElement(this.#element);
    return collectiveNs(links, name, count * width * wordBytes);
  }

  /** Does the bookkeeping in order and says how long all of it takes. */
  run(works: readonly Work[]): number {
    let totalNs = 0;
    for (const work of works) totalNs = this.#runOn(totalNs, work);
    return Math.round(totalNs);
  }

  /** The same of one. */
  runOne(work: Work): number {
    return Math.round(this.#runOn(0, work));
  }

  #runOn(beforeNs: number, work: Work): number {
    const { fixedNs, bookkeeping, attention, attentions } = work;
    const totalNs = beforeNs + fixedNs;
    if (bookkeeping !== null) {
      bookkeeping();
      this.memoryChanged();
    }
    if (attention === null) return totalNs;
    return totalNs + attentions * this.#attentionNs(work, attention);
  }

  /** What attention finds may be different from now on. */
  memoryChanged(): void {
    if (this.#attentions.length === 0) return;
    while (this.#attended.length > 0) this.#attended.pop();
    while (this.#attentions.length > 0) this.#attentions.pop();
  }

  #attentionNs(work: Work, attention: AttentionArgs): number {
    const known = this.#attentions.indexOf(work);
    if (known >= 0) return this.#attentionsNs[known]!;
    const cost = attentionCost(attention, this.#element, this.#attendedBy(attention));
    const ns = this.#kernelNs(cost, attention.count);
    this.#attentionsNs[this.#attentions.length] = ns;
    this.#attentions.push(work);
    return ns;
  }

  /** Layers of one batch attend to the same positions: they are counted once for each window. */
  #attendedBy(args: AttentionArgs): Attended {
    const { tokenRows, positions, count } = args;
    const window = windowOf(args);
    for (const { of, seen } of this.#attended) {
      if (windowOf(of) === window && isSameBatch(of, args)) return seen;
    }
    const seen = attendedBy(wordsOf(tokenRows), wordsOf(positions), count, window);
    this.#attended.push({ of: args, seen });
    return seen;
  }

  #kernelNs({ bytes, operations }: OpCost, lines: number): number {
    const { copyBytesPerSecond, bf16FlopsPerSecond, kernelNs } = this.#roofline;
    const { nodeNs, memoryBoundSlowdown, reached } = this.#options;
    const bytesNs = ((bytes * 1e9) / copyBytesPerSecond) * memoryBoundSlowdown;
    const operationsNs = (operations * 1e9) / bf16FlopsPerSecond;
    const leastNs = Math.max(bytesNs, operationsNs, kernelNs) + nodeNs;
    return leastNs * reachedFactor(reached, lines);
  }
}

/**
 * What a graph keeps: between two works with bookkeeping, which stay where they are, everything of
 * fixed cost is one, and so are attentions that cost the same.
 */
export function fuse(works: readonly Work[]): Work[] {
  const fused: Sum[] = [];
  let from = 0;
  // Layers alike are the same work again: looking for what it is like takes long.
  const sums = new Map<Work, Sum>();
  for (const work of works) {
    if (work.bookkeeping !== null) {
      fused.push(work);
      from = fused.length;
      sums.clear();
      continue;
    }
    const sum =
      sums.get(work) ?? fused.find((other, index) => index >= from && isAlike(other, work));
    if (sum === undefined) {
      const first = { ...work };
      fused.push(first);
      sums.set(work, first);
      continue;
    }
    sums.set(work, sum);
    sum.operations += work.operations;
    sum.fixedNs += work.fixedNs;
    sum.attentions += work.attentions;
  }
  return fused;
}

/** Works that are one. */
type Sum = { -readonly [Field in keyof Work]: Work[Field] };

function isAlike({ attention: a }: Work, { attention: b }: Work): boolean {
  if (a === null || b === null) return a === b;
  if ('rank' in a || 'rank' in b) {
    if (!('rank' in a && 'rank' in b)) return false;
    const isSame = a.rank === b.rank && a.rotaryDim === b.rotaryDim && a.heads === b.heads;
    return isSame && a.projectedStride === b.projectedStride && isSameBatch(a, b);
  }
  const isSameShape = a.heads === b.heads && a.kvHeads === b.kvHeads && a.headDim === b.headDim;
  if (a.lineKv !== b.lineKv) return false;
  return isSameShape && a.window === b.window && a.kvFormat === b.kvFormat && isSameBatch(a, b);
}

/** 0 is none. */
const windowOf = (args: AttentionArgs) => ('rank' in args ? 0 : args.window);

function isSameBatch(a: AttentionArgs, b: AttentionArgs): boolean {
  return (
    a.count === b.count &&
    isSameSlice(a.tokenRows, b.tokenRows) &&
    isSameSlice(a.positions, b.positions)
  );
}

function isSameSlice(a: Slice, b: Slice): boolean {
  return a.buffer === b.buffer && a.offsetBytes === b.offsetBytes;
}
