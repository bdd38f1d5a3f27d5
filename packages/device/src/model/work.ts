import type { Roofline } from '@bridgekeeper/bridge';
import { type Attended, attendedBy, attentionCost, type OpCost, opCost } from '../cost.ts';
import type { ElementType, Slice } from '../device.ts';
import type { OpArgs, OpName } from '../ops.ts';
import { bookkeepingOf } from './bookkeeping.ts';
import { bufferOf, wordsOf } from './memory.ts';

/** Operations in a row, priced as far as they can be before they run. */
export interface Work {
  readonly operations: number;
  /** What of it does not depend on memory. */
  readonly fixedNs: number;
  readonly bookkeeping: (() => void) | null;
  /** Priced when it runs, by the positions it then finds. */
  readonly attention: OpArgs['attention'] | null;
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
}

/** Linear between the points, constant outside them; 1 where there are none. */
export function reachedFactor(points: readonly ReachedPoint[], lines: number): number {
  const above = points.findIndex((point) => point.lines >= lines);
  if (above === 0) return points[0]!.factor;
  if (above < 0) return points.at(-1)?.factor ?? 1;
  const [low, high] = [points[above - 1]!, points[above]!];
  const share = (lines - low.lines) / (high.lines - low.lines);
  return low.factor + (high.factor - low.factor) * share;
}

/** The modelled GPU's speed: a kernel takes as long as its bytes, arithmetic or start does. */
export class WorkPricer {
  readonly #element: ElementType;
  readonly #roofline: Roofline;
  readonly #options: PricingOptions;
  readonly #attended = new Map<number, Attended>();
  #attendedFor: OpArgs['attention'] | null = null;

  constructor(element: ElementType, roofline: Roofline, options: PricingOptions) {
    this.#element = element;
    this.#roofline = roofline;
    this.#options = options;
  }

  /** Prices one operation. Throws DeviceError `bad-argument` for memory that is not there. */
  compile<Name extends OpName>(name: Name, args: OpArgs[Name]): Work {
    for (const field in args) {
      const value: unknown = args[field];
      if (typeof value === 'object' && value !== null) bufferOf(value as Slice);
    }
    const bookkeeping = bookkeepingOf(name, args);
    if (name === 'attention') {
      return { operations: 1, fixedNs: 0, bookkeeping, attention: args as OpArgs['attention'] };
    }
    const cost = opCost(name, args, this.#element, wordsOf);
    const fixedNs = this.#kernelNs(cost, 'count' in args ? args.count : 1);
    return { operations: 1, fixedNs, bookkeeping, attention: null };
  }

  /** Does the bookkeeping in order and says how long all of it takes. */
  run(works: readonly Work[]): number {
    let totalNs = 0;
    for (const { fixedNs, bookkeeping, attention } of works) {
      totalNs += fixedNs;
      if (bookkeeping !== null) {
        bookkeeping();
        this.memoryChanged();
      }
      if (attention !== null) {
        const cost = attentionCost(attention, this.#element, this.#attendedBy(attention));
        totalNs += this.#kernelNs(cost, attention.count);
      }
    }
    return Math.round(totalNs);
  }

  /** What attention finds may be different from now on. */
  memoryChanged(): void {
    this.#attendedFor = null;
  }

  /** Layers of one batch attend to the same positions: they are counted once for each window. */
  #attendedBy(args: OpArgs['attention']): Attended {
    const known = this.#attendedFor;
    if (known === null || !isSameBatch(known, args)) {
      this.#attendedFor = args;
      this.#attended.clear();
    }
    let attended = this.#attended.get(args.window);
    if (attended === undefined) {
      const { tokenRows, positions, count, window } = args;
      attended = attendedBy(wordsOf(tokenRows), wordsOf(positions), count, window);
      this.#attended.set(window, attended);
    }
    return attended;
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

/** Works in the same order with neighbours of fixed cost made one: what a graph keeps. */
export function fuse(works: readonly Work[]): Work[] {
  const fused: Work[] = [];
  let last: Work | undefined;
  for (const work of works) {
    if (last !== undefined && last.bookkeeping === null && last.attention === null) {
      fused.pop();
      last = {
        ...work,
        operations: last.operations + work.operations,
        fixedNs: last.fixedNs + work.fixedNs,
      };
    } else {
      last = work;
    }
    fused.push(last);
  }
  return fused;
}

function isSameBatch(a: OpArgs['attention'], b: OpArgs['attention']): boolean {
  return (
    a.count === b.count &&
    isSameSlice(a.tokenRows, b.tokenRows) &&
    isSameSlice(a.positions, b.positions)
  );
}

function isSameSlice(a: Slice, b: Slice): boolean {
  return a.buffer === b.buffer && a.offsetBytes === b.offsetBytes;
}
