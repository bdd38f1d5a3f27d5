import type { Crossing } from './crossing.ts';
import { invariant } from './invariant.ts';
import type { CrossingSchedule, Law, Situation } from './law.ts';
import type { CrossingCost, MeetingCost, Profile } from './profile.ts';

/** The law as one machine's profile states it. */
export function profileLaw(profile: Profile): Law {
  const { contextSerialises, keyRotation, submission } = profile;
  const costs = {
    h2d: {
      pinned: costOf(profile.crossings.h2d.pinned),
      pageable: costOf(profile.crossings.h2d.pageable),
    },
    d2h: {
      pinned: costOf(profile.crossings.d2h.pinned),
      pageable: costOf(profile.crossings.d2h.pageable),
    },
  };
  const contextFactor = contextFactorOf(profile.contexts.aggregateRate);

  function schedule(crossing: Crossing, situation: Situation): CrossingSchedule {
    const { direction, bytes, memory } = crossing;
    const { issuedNs, streamReadyNs, channel, contexts, hostIsFresh } = situation;
    invariant(bytes >= 0, 'a crossing of fewer than no bytes');
    const cost = costs[direction][memory];
    const { h2dFreeAtNs, d2hFreeAtNs } = channel;
    const sameFreeAtNs = direction === 'h2d' ? h2dFreeAtNs : d2hFreeAtNs;
    const freeAtNs = contextSerialises ? Math.max(h2dFreeAtNs, d2hFreeAtNs) : sameFreeAtNs;
    const startedNs = Math.max(issuedNs, streamReadyNs, freeAtNs);

    const isQueued = streamReadyNs > issuedNs;
    let serviceNs = cost.idleTollNs + (isQueued ? cost.queuedTollNs : 0);
    if (hostIsFresh === true) serviceNs += cost.freshTollNs;
    if (bytes > 0) serviceNs += (bytes * 1e9) / (cost.rate(bytes) * contextFactor(contexts));

    let bytesSinceRotation = channel.bytesSinceRotation + bytes;
    if (keyRotation !== null) {
      const rotations = Math.floor(bytesSinceRotation / keyRotation.everyBytes);
      bytesSinceRotation -= rotations * keyRotation.everyBytes;
      serviceNs += rotations * keyRotation.stallNs;
    }

    const completedNs = startedNs + Math.round(serviceNs);
    return {
      startedNs,
      completedNs,
      issuerFreeNs: cost.issueNs === null ? completedNs : issuedNs + cost.issueNs(bytes),
      channel: {
        h2dFreeAtNs: direction === 'h2d' ? completedNs : h2dFreeAtNs,
        d2hFreeAtNs: direction === 'd2h' ? completedNs : d2hFreeAtNs,
        bytesSinceRotation,
      },
    };
  }

  return {
    profile,
    schedule,
    launchNs: () => submission.launchNs,
    graphLaunchNs: () => submission.graphLaunchNs,
  };
}

/**
 * How long one crossing of `bytes` keeps an idle bridge: toll and bytes on an idle stream, alone.
 * It never falls with more bytes, by the schema.
 */
export function aloneNs(cost: CrossingCost, bytes: number): number {
  return cost.idleTollNs + (bytes > 0 ? (bytes * 1e9) / rateCurve(cost.bandwidth)(bytes) : 0);
}

/** What a collective takes beside the start of its kernel; so many bytes come to each GPU. */
export function meetingNs({ tollNs, bandwidth }: MeetingCost, bytes: number): number {
  return tollNs + (bytes > 0 ? (bytes * 1e9) / rateCurve(bandwidth)(bytes) : 0);
}

interface FlatCost {
  readonly idleTollNs: number;
  readonly queuedTollNs: number;
  readonly freshTollNs: number;
  /** For so many bytes; null: the issuer is blocked until the crossing is done. */
  readonly issueNs: ((bytes: number) => number) | null;
  /** Bytes per second for a crossing of so many bytes. */
  rate(bytes: number): number;
}

function costOf(cost: CrossingCost): FlatCost {
  const { idleTollNs, queuedTollNs, freshTollNs, issuer, bandwidth } = cost;
  const issueNs = issuer.blockedUntil === 'done' ? null : issueTime(issuer);
  return { idleTollNs, queuedTollNs, freshTollNs, issueNs, rate: rateCurve(bandwidth) };
}

function issueTime(issuer: Extract<CrossingCost['issuer'], { blockedUntil: 'issued' }>) {
  const { issueNs, issueBytesPerSecond } = issuer;
  if (issueBytesPerSecond === undefined) return () => issueNs;
  return (bytes: number) => issueNs + Math.round((bytes * 1e9) / issueBytesPerSecond);
}

/** Log-log interpolation, constant outside the points. */
function rateCurve(points: CrossingCost['bandwidth']): (bytes: number) => number {
  const first = points[0]!;
  const last = points[points.length - 1]!;
  return (bytes) => {
    if (bytes <= first.bytes) return first.bytesPerSecond;
    if (bytes >= last.bytes) return last.bytesPerSecond;
    let i = 1;
    while (points[i]!.bytes < bytes) i += 1;
    const low = points[i - 1]!;
    const high = points[i]!;
    const share = Math.log(bytes / low.bytes) / Math.log(high.bytes / low.bytes);
    return low.bytesPerSecond * (high.bytesPerSecond / low.bytesPerSecond) ** share;
  };
}

/** What one of `n` contexts gets of what it would get alone: its share of the aggregate. */
function contextFactorOf(
  points: Profile['contexts']['aggregateRate'],
): (contexts: number) => number {
  return (contexts) => {
    invariant(contexts >= 1, 'a crossing among no contexts, not even its own');
    let i = 0;
    while (i + 1 < points.length && points[i + 1]!.contexts <= contexts) i += 1;
    const low = points[i]!;
    const high = points[i + 1] ?? low;
    const span = high.contexts - low.contexts;
    const share = span === 0 ? 0 : (contexts - low.contexts) / span;
    return (low.factor + (high.factor - low.factor) * share) / contexts;
  };
}
