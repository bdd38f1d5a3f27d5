import { type Crossing, profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { describe, expect, it } from 'vitest';
import { Channels } from './channels.ts';

const LAW = profileLaw(referenceProfile('b300-cc'));
const CROSSING: Crossing = {
  direction: 'h2d',
  bytes: 1 << 20,
  purpose: 'probe',
  tenant: 'test',
  memory: 'pinned',
};
const NOW = { issuedNs: 1000, streamReadyNs: 1000, hostIsFresh: false };

describe('Channels', () => {
  it('makes crossings of one context take turns, whoever issues them', () => {
    const memory = new Channels().memory;
    const first = new Channels(memory).schedule(
      1,
      LAW,
      CROSSING,
      NOW.issuedNs,
      NOW.streamReadyNs,
      false,
    );
    const second = new Channels(memory).schedule(
      1,
      LAW,
      CROSSING,
      NOW.issuedNs,
      NOW.streamReadyNs,
      false,
    );
    expect(first.startedNs).toBe(NOW.issuedNs);
    expect(second.startedNs).toBe(first.completedNs);
  });

  it('lets contexts cross side by side, at the rate that the law gives them together', () => {
    const channels = new Channels();
    const alone = channels.schedule(1, LAW, CROSSING, NOW.issuedNs, NOW.streamReadyNs, false);
    const beside = channels.schedule(2, LAW, CROSSING, NOW.issuedNs, NOW.streamReadyNs, false);
    expect(beside.startedNs).toBe(NOW.issuedNs);
    const expected = LAW.schedule(CROSSING, {
      ...NOW,
      channel: { h2dFreeAtNs: 0, d2hFreeAtNs: 0, bytesSinceRotation: 0 },
      contexts: 2,
    });
    expect(beside.completedNs).toBe(expected.completedNs);
    const after = { ...NOW, issuedNs: beside.completedNs, streamReadyNs: beside.completedNs };
    const later = channels.schedule(3, LAW, CROSSING, after.issuedNs, after.streamReadyNs, false);
    expect(later.completedNs - later.startedNs).toBe(alone.completedNs - alone.startedNs);
  });

  it('is fresh again for a new context', () => {
    const channels = new Channels();
    const first = channels.schedule(1, LAW, CROSSING, 1000, 1000, false);
    channels.reset(1);
    expect(channels.schedule(1, LAW, CROSSING, 1000, 1000, false)).toEqual(first);
  });

  it('held for a copy, is given to no other thread, and the wait ends when the device does', () => {
    const channels = new Channels();
    channels.acquire(2, () => {});
    const other = new Channels(channels.memory);
    const closed = () => {
      throw new Error('closed');
    };
    expect(() => other.acquire(2, closed)).toThrow('closed');
    other.acquire(3, closed);
    channels.release(2);
    other.acquire(2, closed);
  });
});
