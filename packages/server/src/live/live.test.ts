import { referenceProfile } from '@bridgekeeper/bridge';
import { describe, expect, it } from 'vitest';
import type { LiveBatch } from './batch.ts';
import { type FeedClock, LiveFeed, momentOf } from './feed.ts';
import { LiveRecorder } from './recorder.ts';
import type { LiveListener, LiveSource } from './source.ts';
import { traceEventsOf } from './trace-events.ts';

const CROSSING = {
  direction: 'd2h',
  bytes: 64,
  purpose: 'tokens',
  tenant: 'shared',
  memory: 'pinned',
  lane: 'drain',
  issuedNs: 1_000_000,
  startedNs: 1_000_000,
  completedNs: 1_400_000,
  issuerBlockedNs: 300_000,
} as const;

describe('the recorder', () => {
  it('writes nothing down while nobody watches', () => {
    const recorder = new LiveRecorder(null);
    recorder.crossing(CROSSING);
    recorder.launch({ startedNs: 0, doneNs: 1, steps: 1, rows: 1, promptTokens: 0 });
    const batch = recorder.take(0);
    expect([batch.crossings.length, batch.launches.length, batch.dropped]).toEqual([0, 0, 0]);
  });

  it('tells the toll apart, by what is known of the bridge', () => {
    const profile = referenceProfile('b300-cc');
    const recorder = new LiveRecorder(profile);
    recorder.isWatched = true;
    recorder.crossing(CROSSING);
    const moment = momentOf(recorder.take(2_000_000), 1, 7_000_000);
    const tollUs = Math.round(profile.crossings.d2h.pinned.idleTollNs / 1000);
    expect(tollUs).toBeGreaterThan(0);
    expect(moment).toMatchObject({ seq: 1, now_us: 2_000, server_us: 7_000, lanes: ['drain'] });
    const [lane, , ago, us, toll, blocked, bytes, count] = moment.crossings[0]!;
    expect([lane, ago, us, toll, blocked, bytes, count]).toEqual([
      0,
      1000,
      400,
      tollUs,
      300,
      64,
      1,
    ]);
  });

  it('counts what finds no room, and has room again when it was asked', () => {
    const recorder = new LiveRecorder(null);
    recorder.isWatched = true;
    for (let at = 0; at < 8_200; at++) recorder.crossing(CROSSING);
    expect(recorder.take(0).dropped).toBe(8);
    recorder.crossing(CROSSING);
    expect(recorder.take(0)).toMatchObject({ dropped: 0 });
  });
});

describe('a moment', () => {
  it('joins the neighbours of a crowd, and loses none of their sums', () => {
    const recorder = new LiveRecorder(null);
    recorder.isWatched = true;
    const count = 5_000;
    for (let at = 0; at < count; at++) {
      const startedNs = at * 10_000;
      const times = { issuedNs: startedNs, startedNs, completedNs: startedNs + 5_000 };
      recorder.crossing({ ...CROSSING, ...times, lane: at % 2 === 0 ? 'a' : 'b' });
    }
    const { crossings } = momentOf(recorder.take(count * 10_000), 1, 0);
    expect(crossings.length).toBeLessThan(20);
    expect(crossings.reduce((sum, each) => sum + each[7], 0)).toBe(count);
    expect(crossings.reduce((sum, each) => sum + each[6], 0)).toBe(count * 64);
  });
});

/** An engine that says something when the test wants it to. */
class Source implements LiveSource {
  listener: LiveListener | undefined;

  watch(listener: LiveListener): () => void {
    this.listener = listener;
    return () => {
      this.listener = undefined;
    };
  }

  say(nowNs: number): void {
    const batch: LiveBatch = {
      nowNs,
      lanes: ['inline'],
      crossings: new Float64Array(0),
      launches: Float64Array.of(nowNs - 5e6, nowNs, 4, 2, 0),
      dropped: 0,
    };
    this.listener?.(batch);
  }
}

/** Time stands still but for what is to come later, which comes when the test wants it to. */
class Later implements FeedClock {
  action: (() => void) | undefined;

  nowNs(): number {
    return 0;
  }

  async sleepUntilNs(): Promise<void> {}

  after(_: number, action: () => void): () => void {
    this.action = action;
    return () => {
      this.action = undefined;
    };
  }
}

describe('the feed', () => {
  it('watches for its readers, and a while longer', () => {
    const clock = new Later();
    const source = new Source();
    const feed = new LiveFeed(source, clock);
    expect(source.listener).toBeUndefined();
    const heard: number[] = [];
    const leave = feed.subscribe(({ seq }) => heard.push(seq));
    source.say(1e9);
    source.say(1.1e9);
    leave();
    source.say(1.2e9);
    expect(heard).toEqual([1, 2]);
    expect(feed.recent().map(({ seq }) => seq)).toEqual([1, 2, 3]);
    clock.action?.();
    expect(source.listener).toBeUndefined();
    // What comes after a pause does not join on to what was before it.
    expect(feed.recent()).toEqual([]);
  });

  it('keeps ten seconds', () => {
    const source = new Source();
    const feed = new LiveFeed(source, new Later());
    feed.subscribe(() => {});
    for (let second = 1; second <= 20; second++) source.say(second * 1e9);
    expect(feed.recent().map(({ now_us }) => now_us / 1e6)).toEqual([
      10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
    ]);
  });

  it('is written as trace events, in microseconds', () => {
    const source = new Source();
    const feed = new LiveFeed(source, new Later());
    feed.subscribe(() => {});
    source.say(2e9);
    const { traceEvents } = JSON.parse(traceEventsOf(feed.recent())) as {
      traceEvents: Record<string, unknown>[];
    };
    const launches = traceEvents.filter(({ ph }) => ph === 'X');
    expect(launches).toEqual([
      {
        ph: 'X',
        name: 'decode',
        cat: 'bridge',
        pid: 1,
        tid: 1,
        ts: 1_995_000,
        dur: 5_000,
        args: { steps: 4, rows: 2, promptTokens: 0 },
      },
    ]);
  });
});
