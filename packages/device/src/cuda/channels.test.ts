import { type Crossing, profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { describe, expect, it } from 'vitest';
import { Channels, createSharedChannels } from './channels.ts';

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
    const shared = createSharedChannels();
    const first = new Channels(shared).schedule(1, LAW, CROSSING, NOW);
    const second = new Channels(shared).schedule(1, LAW, CROSSING, NOW);
    expect(first.startedNs).toBe(NOW.issuedNs);
    expect(second.startedNs).toBe(first.completedNs);
  });

  it('lets contexts cross side by side, at the rate that the law gives them together', () => {
    const channels = new Channels(createSharedChannels());
    const alone = channels.schedule(1, LAW, CROSSING, NOW);
    const beside = channels.schedule(2, LAW, CROSSING, NOW);
    expect(beside.startedNs).toBe(NOW.issuedNs);
    const expected = LAW.schedule(CROSSING, {
      ...NOW,
      channel: { h2dFreeAtNs: 0, d2hFreeAtNs: 0, bytesSinceRotation: 0 },
      contexts: 2,
    });
    expect(beside.completedNs).toBe(expected.completedNs);
    const after = { ...NOW, issuedNs: beside.completedNs, streamReadyNs: beside.completedNs };
    const later = channels.schedule(3, LAW, CROSSING, after);
    expect(later.completedNs - later.startedNs).toBe(alone.completedNs - alone.startedNs);
  });
});
