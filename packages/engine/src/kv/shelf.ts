import { invariant } from '@bridgekeeper/bridge';
import { type Link, NOWHERE, type PageNode } from './page-node.ts';

/**
 * One tier's places, and the nodes that could give theirs up, in queues: the first of a queue came
 * in longest ago. What is in a queue, and of which queue the first goes next, a policy says.
 */
export class Shelf {
  /** Index into TIERS. */
  readonly tier: number;
  readonly places: number;
  readonly #free: number[] = [];
  readonly #nodeAt: (PageNode | undefined)[];
  readonly #queues: Queue[] = [];
  #queued = 0;

  constructor(tier: number, places: number) {
    this.tier = tier;
    this.places = places;
    this.#nodeAt = new Array(places);
    for (let place = places - 1; place >= 0; place--) this.#free.push(place);
  }

  get free(): number {
    return this.#free.length;
  }

  /** Nodes that could give up their place. */
  get queued(): number {
    return this.#queued;
  }

  /** A place that is nobody's. Only when one is free. */
  take(): number {
    const place = this.#free.pop();
    invariant(place !== undefined, 'a place is taken from those that are free');
    return place;
  }

  giveBack(place: number): void {
    this.#free.push(place);
  }

  /** The node's content is at a place that was taken. */
  put(node: PageNode, place: number): void {
    invariant(node.at[this.tier] === NOWHERE, 'a node has one place in a tier');
    node.at[this.tier] = place;
    this.#nodeAt[place] = node;
  }

  /** The node is there no more; its place is the caller's, to give back or to use. */
  remove(node: PageNode): number {
    const place = node.at[this.tier]!;
    invariant(place !== NOWHERE, 'a node leaves the tier that it is in');
    this.leave(node);
    node.at[this.tier] = NOWHERE;
    this.#nodeAt[place] = undefined;
    return place;
  }

  nodeAt(place: number): PageNode | undefined {
    return this.#nodeAt[place];
  }

  has(node: PageNode): boolean {
    return node.links[this.tier] !== undefined;
  }

  /** Joins a queue as its last, out of any it is in. */
  join(node: PageNode, queue: number): void {
    this.leave(node);
    node.links[this.tier] = this.#queueOf(queue).append(node, queue);
    this.#queued += 1;
  }

  leave(node: PageNode): void {
    const link = node.links[this.tier];
    if (link === undefined) return;
    node.links[this.tier] = undefined;
    this.#queues[link.queue]!.remove(link);
    this.#queued -= 1;
  }

  first(queue: number): PageNode | undefined {
    return this.#queues[queue]?.first;
  }

  /** Nodes of that queue. */
  size(queue: number): number {
    return this.#queues[queue]?.size ?? 0;
  }

  get queues(): number {
    return this.#queues.length;
  }

  #queueOf(index: number): Queue {
    while (this.#queues.length <= index) this.#queues.push(new Queue());
    return this.#queues[index]!;
  }
}

/** A ring of links with a head that is no node: a Map's first is slow where many have left it. */
export class Queue {
  size = 0;
  readonly #head: Link;

  constructor() {
    const head = { queue: 0 } as Link;
    head.previous = head;
    head.next = head;
    this.#head = head;
  }

  get first(): PageNode | undefined {
    return this.size === 0 ? undefined : this.#head.next.node;
  }

  append(node: PageNode, queue: number): Link {
    const last = this.#head.previous;
    const link = { node, queue, previous: last, next: this.#head };
    last.next = link;
    this.#head.previous = link;
    this.size += 1;
    return link;
  }

  remove(link: Link): void {
    link.previous.next = link.next;
    link.next.previous = link.previous;
    this.size -= 1;
  }
}
