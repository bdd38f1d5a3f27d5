import { invariant } from '@bridgekeeper/bridge';
import {
  type Arrival,
  NOWHERE,
  type PageNode,
  type SidePool,
  type WindowPart,
} from './page-node.ts';
import { Queue } from './shelf.ts';

export interface WindowSizes {
  readonly pageTokens: number;
  /** Tokens that the layers look back, the own one included. */
  readonly windowTokens: number;
  /** Tokens beyond those that are known to be computed for which a row has pages, at most. */
  readonly aheadTokens: number;
  /** Tokens that one launch computes, at most. */
  readonly launchTokens: number;
}

/** Pages that hold what the token behind a full page looks back at, but for itself. */
const pagesBefore = ({ windowTokens, pageTokens }: WindowSizes) =>
  Math.ceil((windowTokens - 1) / pageTokens);

/**
 * Pages that a sequence has at most, beside those of a launch's prompts: its window, which begins
 * and ends anywhere in a page, and what it is ahead.
 */
export function windowPagesOfRow(sizes: WindowSizes): number {
  return pagesBefore(sizes) + 1 + Math.ceil(sizes.aheadTokens / sizes.pageTokens);
}

/** Pages that the prompts of one launch take beyond these: it writes all of a chunk, then reads. */
export function windowPagesOfLaunch({ launchTokens, pageTokens }: WindowSizes): number {
  return Math.ceil(launchTokens / pageTokens);
}

/** What a sequence has of the pool. */
export class WindowPages {
  /** By the index of its pages; those before `first` are of others by now, and never read. */
  readonly pages: number[] = [];
  first = 0;
  /** So many are there for it whenever it needs them. */
  reserved = 0;
}

/** A sequence as far as its windows go. */
export interface WindowedSequence {
  readonly length: number;
  readonly promptLength: number;
  /** Tokens that are computed in all. */
  readonly lastPosition: number;
  readonly nodes: readonly PageNode[];
  readonly window: WindowPages;
}

/** Queues of what no sequence has. */
const PASSED = 0;
const ENDED = 1;
/** For each node of the first kind there are as many of the second, at most. */
const ENDED_RATIO = 7;
/** Requests that had a node after which others are expected to: the next turn of a talk is one. */
const SEVERAL = 3;
type Unheld = typeof PASSED | typeof ENDED;

/**
 * The pages of layers that see a window. A sequence has those that its next token looks back at and
 * those of what it computes, and lets go of what is behind: launches on their way may still read
 * it, and whoever gets the page writes to it after them.
 *
 * A page that is let go stays the part of its node, if it has one, until it is needed: the prefix
 * can be continued wherever a whole window of parts is there. Where a prompt or an answer ended, or
 * several went on, another is likely to go on; what one of them only passed is much more, and would
 * soon be all that is left. So of what is not held the latter goes first while it is more than a
 * small part, and of each what was used longest ago.
 *
 * A sequence is admitted when all that it will ever have at once can be reserved, and one launch's
 * prompts have room of their own, so that none ever waits for a page: whatever runs goes on. A page
 * to which content is on its way is some sequence's; once that has gone, its promise stays for it.
 */
export class WindowPool implements SidePool {
  readonly pages: number;
  /** Told of a part before its page goes to another: whether a prefix is likely to go on there. */
  whenEvicted: (node: PageNode, isEnd: boolean) => void = () => {};
  /** As `WindowSizes` has it. */
  readonly aheadTokens: number;
  /** Pages that what is behind a page looks back at. */
  readonly pagesBefore: number;
  readonly #pageTokens: number;
  readonly #ofRow: number;
  readonly #ofLaunch: number;
  readonly #free: number[] = [];
  /** Nodes whose parts no sequence has: those that one passed, and those where one may go on. */
  readonly #unheld = [new Queue(), new Queue()] as const;
  #reserved = 0;
  /** Pages to which something comes that no sequence has any more. */
  #orphans = 0;

  constructor(pages: number, sizes: WindowSizes) {
    this.pages = pages;
    this.aheadTokens = sizes.aheadTokens;
    this.#pageTokens = sizes.pageTokens;
    this.pagesBefore = pagesBefore(sizes);
    this.#ofRow = windowPagesOfRow(sizes);
    this.#ofLaunch = windowPagesOfLaunch(sizes);
    invariant(this.#ofRow + this.#ofLaunch <= pages, 'a pool has room for one sequence');
    for (let page = pages - 1; page >= 0; page--) this.#free.push(page);
  }

  /** Pages that sequences have. */
  get held(): number {
    return this.pages - this.#free.length - this.#unheld[PASSED].size - this.#unheld[ENDED].size;
  }

  /** The part of the pool that is promised to sequences: none is admitted beyond it. */
  get reservedFraction(): number {
    return (this.#reserved + this.#orphans) / (this.pages - this.#ofLaunch);
  }

  /** Whether all that the sequence will need could be reserved now. */
  fits(sequence: WindowedSequence): boolean {
    const promised = this.#reserved + this.#orphans + this.#ofLaunch;
    return promised + this.#mostOf(sequence) <= this.pages;
  }

  #mostOf({ length, lastPosition }: WindowedSequence): number {
    const all = Math.ceil(Math.max(length, lastPosition) / this.#pageTokens);
    return Math.min(all, this.#ofRow);
  }

  /** Of leading nodes of a prefix, how many can be continued: it `has` their windows. */
  continuable(nodes: readonly PageNode[], has: (node: PageNode) => boolean): number {
    let most = 0;
    let together = 0;
    for (const [index, node] of nodes.entries()) {
      together = has(node) ? together + 1 : 0;
      if (together >= Math.min(this.pagesBefore, index + 1)) most = index + 1;
    }
    return most;
  }

  /** Of leading nodes of a prefix, those that what continues them looks back at. */
  seenFrom(nodes: readonly PageNode[]): readonly PageNode[] {
    return nodes.slice(Math.max(0, nodes.length - this.pagesBefore));
  }

  /**
   * Reserves what the sequence, which `fits`, needs; it goes on behind the nodes that it holds.
   * Those whose parts are not there get pages for them, to which they are to be brought.
   */
  admit(sequence: WindowedSequence): readonly PageNode[] {
    const { window, nodes } = sequence;
    window.reserved = this.#mostOf(sequence);
    this.#reserved += window.reserved;
    window.first = Math.max(0, nodes.length - this.pagesBefore);
    for (const [index, { window: part }] of nodes.entries()) {
      if (index < window.first || part === null) {
        window.pages.push(0);
        continue;
      }
      this.#hold(part);
      window.pages.push(part.page);
    }
    // All that is there is held by now: none of it gives way.
    const missing = this.seenFrom(nodes).filter((node) => node.window === null);
    for (const node of missing) {
      const page = this.#take();
      node.window = { page, holders: 1, arrival: null, link: null };
      window.pages[node.index] = page;
    }
    return missing;
  }

  placeOf({ window }: PageNode): number {
    return window?.page ?? NOWHERE;
  }

  arrivalOf({ window }: PageNode): Arrival | null {
    return window?.arrival ?? null;
  }

  comes({ window: part }: PageNode, arrival: Arrival): void {
    part!.arrival = arrival;
    part!.holders += 1;
  }

  arrived(node: PageNode): void {
    const part = node.window!;
    if (part.holders === 1) this.#orphans -= 1;
    part.arrival = null;
    this.#letGo(part.page, node, ENDED);
  }

  failed(node: PageNode): void {
    const part = node.window!;
    invariant(part.holders === 1, 'what comes is given up once no sequence waits for it');
    this.#orphans -= 1;
    this.#free.push(part.page);
    node.window = null;
  }

  /** Gives the sequence pages up to so many tokens: within what it is promised they are there. */
  extend({ window }: WindowedSequence, tokens: number): void {
    const end = Math.ceil(tokens / this.#pageTokens);
    while (window.pages.length < end) window.pages.push(this.#take());
  }

  /** Lets go of what the sequence looks back at no more once so many tokens are computed. */
  slide({ nodes, window, promptLength }: WindowedSequence, computed: number): void {
    // Rounded to pages: its last full page can be continued by others.
    const wanted = Math.floor(computed / this.#pageTokens) - this.pagesBefore;
    const promptPages = promptLength / this.#pageTokens;
    const prompt = Math.ceil(promptPages) - 1 - this.pagesBefore;
    for (const end = Math.min(wanted, window.pages.length); window.first < end; window.first++) {
      const node = nodes[window.first];
      const isPromptsEnd = window.first >= prompt && window.first < Math.floor(promptPages);
      const isEnd = isPromptsEnd || (node !== undefined && node.hits >= SEVERAL);
      this.#letGo(window.pages[window.first]!, node, isEnd ? ENDED : PASSED);
    }
  }

  /** What the sequence has of that page is its node's from now on. */
  publish({ nodes, window }: Pick<WindowedSequence, 'nodes' | 'window'>, index: number): void {
    const node = nodes[index]!;
    this.forget(node);
    if (index < window.first || index >= window.pages.length) return;
    node.window = { page: window.pages[index]!, holders: 1, arrival: null, link: null };
  }

  /** The node loses its part, if it has one: nothing of it is anywhere, or its page is replaced. */
  forget(node: PageNode): void {
    const { window: part } = node;
    if (part === null) return;
    invariant(part.holders === 0, 'what a sequence looks back at stays');
    this.#leaveQueue(part);
    this.#free.push(part.page);
    node.window = null;
  }

  /** Gives back all that the sequence has. */
  release({ nodes, window }: Pick<WindowedSequence, 'nodes' | 'window'>): void {
    // The last ones first, as pages of contexts are given back.
    for (let index = window.pages.length - 1; index >= window.first; index--) {
      this.#letGo(window.pages[index]!, nodes[index], ENDED);
    }
    this.#reserved -= window.reserved;
    window.pages.length = 0;
    window.first = 0;
    window.reserved = 0;
  }

  /** A page that a sequence had, which is its node's or was its own. */
  #letGo(page: number, node: PageNode | undefined, queue: Unheld): void {
    const part = node?.window;
    if (node === undefined || part?.page !== page) {
      this.#free.push(page);
      return;
    }
    part.holders -= 1;
    if (part.holders === 0) part.link = this.#unheld[queue].append(node, queue);
    else if (part.holders === 1 && part.arrival !== null) this.#orphans += 1;
  }

  #hold(part: WindowPart): void {
    if (part.holders === 0) this.#leaveQueue(part);
    else if (part.holders === 1 && part.arrival !== null) this.#orphans -= 1;
    part.holders += 1;
  }

  #leaveQueue(part: WindowPart): void {
    this.#unheld[part.link!.queue as Unheld].remove(part.link!);
    part.link = null;
  }

  #take(): number {
    if (this.#free.length === 0) {
      const [passed, ended] = this.#unheld;
      const isEnd = ended.size > ENDED_RATIO * passed.size;
      const oldest = (isEnd ? ended : passed).first;
      invariant(oldest !== undefined, 'no sequence takes more than was reserved');
      this.whenEvicted(oldest, isEnd);
      this.forget(oldest);
    }
    return this.#free.pop()!;
  }
}
