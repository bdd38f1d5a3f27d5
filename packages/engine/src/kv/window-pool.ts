import { invariant } from '@bridgekeeper/bridge';
import type { PageNode, WindowPart } from './page-node.ts';
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

/** What the prefix tree knows of it. */
type WindowHolder = Pick<WindowedSequence, 'nodes'> & Partial<Pick<WindowedSequence, 'window'>>;

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
 * prompts have room of their own, so that none ever waits for a page: whatever runs goes on.
 */
export class WindowPool {
  readonly pages: number;
  /** As `WindowSizes` has it. */
  readonly aheadTokens: number;
  readonly #pageTokens: number;
  readonly #before: number;
  readonly #ofRow: number;
  readonly #ofLaunch: number;
  readonly #free: number[] = [];
  /** Nodes whose parts no sequence has: those that one passed, and those where one may go on. */
  readonly #unheld = [new Queue(), new Queue()] as const;
  #reserved = 0;

  constructor(pages: number, sizes: WindowSizes) {
    this.pages = pages;
    this.aheadTokens = sizes.aheadTokens;
    this.#pageTokens = sizes.pageTokens;
    this.#before = pagesBefore(sizes);
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
    return this.#reserved / (this.pages - this.#ofLaunch);
  }

  /** Whether all that the sequence will need could be reserved now. */
  fits(sequence: WindowedSequence): boolean {
    return this.#reserved + this.#mostOf(sequence) + this.#ofLaunch <= this.pages;
  }

  #mostOf({ length, lastPosition }: WindowedSequence): number {
    const all = Math.ceil(Math.max(length, lastPosition) / this.#pageTokens);
    return Math.min(all, this.#ofRow);
  }

  /** Of leading nodes of a prefix, how many can be continued: their windows are there. */
  continuable(nodes: readonly PageNode[]): number {
    let most = 0;
    let together = 0;
    for (const [index, node] of nodes.entries()) {
      together = node.window === null ? 0 : together + 1;
      if (together >= Math.min(this.#before, index + 1)) most = index + 1;
    }
    return most;
  }

  /** Reserves what the sequence, which `fits`, needs; it goes on behind the nodes that it holds. */
  admit(sequence: WindowedSequence): void {
    const { window, nodes } = sequence;
    window.reserved = this.#mostOf(sequence);
    this.#reserved += window.reserved;
    window.first = Math.max(0, nodes.length - this.#before);
    for (const [index, { window: part }] of nodes.entries()) {
      if (index < window.first) {
        window.pages.push(0);
        continue;
      }
      invariant(part !== null, 'a prefix that is continued has its window');
      if (part.holders === 0) this.#leaveQueue(part);
      part.holders += 1;
      window.pages.push(part.page);
    }
  }

  /** Gives the sequence pages up to so many tokens: within what it is promised they are there. */
  extend({ window }: WindowedSequence, tokens: number): void {
    const end = Math.ceil(tokens / this.#pageTokens);
    while (window.pages.length < end) window.pages.push(this.#take());
  }

  /** Lets go of what the sequence looks back at no more once so many tokens are computed. */
  slide({ nodes, window, promptLength }: WindowedSequence, computed: number): void {
    // Rounded to pages: its last full page can be continued by others.
    const wanted = Math.floor(computed / this.#pageTokens) - this.#before;
    const promptPages = promptLength / this.#pageTokens;
    const prompt = Math.ceil(promptPages) - 1 - this.#before;
    for (const end = Math.min(wanted, window.pages.length); window.first < end; window.first++) {
      const node = nodes[window.first];
      const isPromptsEnd = window.first >= prompt && window.first < Math.floor(promptPages);
      const isEnd = isPromptsEnd || (node !== undefined && node.hits >= SEVERAL);
      this.#letGo(window.pages[window.first]!, node, isEnd ? ENDED : PASSED);
    }
  }

  /** What the sequence has of that page is its node's from now on. */
  publish({ nodes, window }: WindowHolder, index: number): void {
    if (window === undefined || index < window.first || index >= window.pages.length) return;
    const node = nodes[index]!;
    invariant(node.window === null, 'a node whose page is replaced has lost its part');
    node.window = { page: window.pages[index]!, holders: 1, link: null };
  }

  /** The node loses its part: its page of whole contexts goes. */
  forget(node: PageNode): void {
    const { window: part } = node;
    if (part === null) return;
    invariant(part.holders === 0, 'what a sequence looks back at stays');
    this.#leaveQueue(part);
    this.#free.push(part.page);
    node.window = null;
  }

  /** Gives back all that the sequence has. */
  release({ nodes, window }: WindowHolder): void {
    if (window === undefined) return;
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
  }

  #leaveQueue(part: WindowPart): void {
    this.#unheld[part.link!.queue as Unheld].remove(part.link!);
    part.link = null;
  }

  #take(): number {
    if (this.#free.length === 0) {
      const [passed, ended] = this.#unheld;
      const oldest = (ended.size > ENDED_RATIO * passed.size ? ended : passed).first;
      invariant(oldest !== undefined, 'no sequence takes more than was reserved');
      this.forget(oldest);
    }
    return this.#free.pop()!;
  }
}
