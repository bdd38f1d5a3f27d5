import type { Device } from '@bridgekeeper/device';
import type { Engine } from '@bridgekeeper/engine';
import type { PreparedModel } from '@bridgekeeper/engine/measure';
import { FairWatch } from '@bridgekeeper/engine/testing';
import type { ServerProcess } from './server-process.ts';
import type { World } from './world.ts';

/** What is seen of a running engine from within. */
export interface EngineWatch {
  readonly engine: Engine;
  /** Requests that it has. */
  readonly open: number;
  /** It failed, and another may be on its way. */
  readonly hasFailed: boolean;
  /** To be called when nothing runs. */
  check(): void;
  /** To be called when no request is open, and none was for a while. */
  checkAtRest(): void;
  /** Writes down which of its ways it went, and looks no more. */
  close(): void;
}

/** Looks closely after so many launches, which takes time. */
const LAUNCHES_A_LOOK = 8;

/** Holds an engine to what is true of its scheduler, its pages and its device. */
export function watchEngine(
  { judge }: World,
  process: ServerProcess,
  engine: Engine,
  device: Device,
  { scheduler, tree, shape }: PreparedModel,
): EngineWatch {
  const { name } = process.life;
  const { maxWaiting, maxRows } = engine.card;
  let launches = 0;
  let isClosed = false;
  let hasFailed = false;
  void engine.failed.then(() => {
    hasFailed = true;
  });
  new FairWatch(scheduler, (what) => judge.violated('fair', `${name}: ${what}`));
  const add = scheduler.add.bind(scheduler);
  scheduler.add = (sequence) => {
    process.onRequest();
    add(sequence);
  };
  /** Of requests, as they were at the last look. */
  const phases = new WeakMap<object, string>();
  let lastCounted = '';

  const look = () => {
    judge.require(
      scheduler.waiting + scheduler.running <= maxWaiting + maxRows,
      'bounded',
      () => `${name}: a queue too long`,
    );
    judge.require(
      scheduler.running <= maxRows,
      'bounded',
      () => `${name}: more rows than there are`,
    );
    judge.require(
      tree.held <= tree.pages,
      'pages-kept',
      () => `${name}: more pages than there are`,
    );
    const tenants = new Map<number, string>();
    const rows = new Map<string, number>();
    let held = 0;
    for (const sequence of scheduler.open()) {
      const before = phases.get(sequence) ?? 'new';
      if (before !== sequence.phase) judge.reached(`request: ${before} to ${sequence.phase}`);
      phases.set(sequence, sequence.phase);
      const { owner = '', maxRows: most = maxRows } = sequence.request.share ?? {};
      if (sequence.phase !== 'waiting') {
        const own = (rows.get(owner) ?? 0) + 1;
        rows.set(owner, own);
        judge.require(own <= most, 'quota-kept', () => `${name}: a key has ${own} rows of ${most}`);
      }
      if (sequence.phase === 'waiting') {
        judge.require(
          sequence.pages.length === 0,
          'pages-kept',
          () => `${name}: a request that waits holds pages`,
        );
        continue;
      }
      const own = new Set<number>();
      for (const page of sequence.pages) {
        judge.require(
          page >= 0 && page < shape.kvPages && !own.has(page),
          'pages-kept',
          () => `${name}: page ${page} is twice in one request`,
        );
        own.add(page);
        const tenant = tenants.get(page);
        if (tenant === undefined) held += 1;
        judge.require(
          tenant === undefined || tenant === sequence.request.tenant,
          'pages-kept',
          () => `${name}: page ${page} is shared by two tenants`,
        );
        tenants.set(page, sequence.request.tenant);
      }
    }
    judge.require(
      held <= tree.pages - tree.available,
      'pages-kept',
      () => `${name}: ${held} pages in use, and ${tree.available} of ${tree.pages} can be had`,
    );
  };

  const atRest = () => {
    judge.require(
      tree.available === tree.pages,
      'pages-kept',
      () => `${name}: at rest ${tree.pages - tree.available} pages are nobody's`,
    );
    const { said, counted } = crossingsOf(engine, device);
    if (counted === lastCounted) return;
    lastCounted = counted;
    judge.require(
      said === counted,
      'ledger-true',
      () => `${name}: the ledger has ${said}, and the device counted ${counted}`,
    );
  };
  return {
    engine,
    get open() {
      return scheduler.waiting + scheduler.running;
    },
    get hasFailed() {
      return hasFailed;
    },
    check() {
      if (isClosed) return;
      const now = device.counters().launches + device.counters().graphLaunches;
      if (now < launches + LAUNCHES_A_LOOK) return;
      launches = now;
      look();
    },
    checkAtRest() {
      // One whose device failed is given up as it is, and another comes in its place.
      if (!isClosed && !process.trouble.hasFailed) atRest();
    },
    close() {
      if (!isClosed) noteReached(engine, judge);
      isClosed = true;
    },
  };
}

/** How many copies, and how many bytes each way, by the ledger and by the device. */
function crossingsOf(engine: Engine, device: Device) {
  const sums = { copies: 0, h2d: 0, d2h: 0 };
  for (const { direction, crossings, bytes } of engine.stats().bridge.totals) {
    sums.copies += crossings;
    sums[direction === 'h2d' ? 'h2d' : 'd2h'] += bytes;
  }
  const { copies, h2dBytes, d2hBytes } = device.counters();
  return {
    said: `${sums.copies} ${sums.h2d} ${sums.d2h}`,
    counted: `${copies} ${h2dBytes} ${d2hBytes}`,
  };
}

function noteReached(engine: Engine, judge: World['judge']): void {
  const { preemptions, prefixHitTokens, kv } = engine.stats();
  const { spilled, restored } = kv.total;
  if (preemptions > 0) judge.reached('engine: preempted');
  if (prefixHitTokens > 0) judge.reached('engine: prefix found');
  if (spilled > 0) judge.reached('engine: pages spilled');
  if (restored > 0) judge.reached('engine: pages restored');
}
