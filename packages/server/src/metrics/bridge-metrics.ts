import type { EngineStats } from '@bridgekeeper/engine';
import { Reading, type Sample } from './reading.ts';

type Labels = Readonly<Record<string, string>>;
type Total = EngineStats['bridge']['totals'][number];
type Lane = EngineStats['bridge']['lanes'][number];

/** What crossed the bridge, for what, and which threads it blocked. */
export function bridgeMetrics(stats: () => EngineStats, labels: Labels): Reading[] {
  const counter = (name: string, help: string, read: () => readonly Sample[]) =>
    new Reading(`bridgekeeper:${name}_total`, 'counter', help, read);
  const byPurpose = (name: string, help: string, value: (total: Total) => number) =>
    counter(name, help, () =>
      stats().bridge.totals.map((total) => ({
        labels: { purpose: total.purpose, direction: total.direction, ...labels },
        value: value(total),
      })),
    );
  const byLane = (read: (lane: Lane, uptimeNs: number) => number) => () => {
    const { lanes, uptimeNs } = stats().bridge;
    return lanes.map((lane) => ({
      labels: { lane: lane.id, kind: lane.kind, ...labels },
      value: read(lane, uptimeNs),
    }));
  };
  const launches = (kind: string, value: number) => ({ labels: { kind, ...labels }, value });
  return [
    byPurpose('bridge_crossings', 'Crossings of the bridge.', (total) => total.crossings),
    byPurpose('bridge_bytes', 'Bytes that crossed.', (total) => total.bytes),
    byPurpose('bridge_busy_seconds', 'Time crossings took.', (total) => total.busyNs / 1e9),
    byPurpose(
      'bridge_blocked_seconds',
      'Time the issuing threads were blocked by them.',
      (total) => total.blockedNs / 1e9,
    ),
    counter(
      'lane_busy_seconds',
      'Time a lane was busy.',
      byLane((lane) => lane.busyNs / 1e9),
    ),
    counter(
      'lane_blocked_seconds',
      "Time a lane's own thread was blocked; the inline lane's is the launching thread.",
      byLane((lane) => lane.blockedNs / 1e9),
    ),
    new Reading(
      'bridgekeeper:lane_utilisation_perc',
      'gauge',
      'Share of the time since start that a lane was busy, 0 to 1.',
      byLane((lane, uptimeNs) => (uptimeNs > 0 ? lane.busyNs / uptimeNs : 0)),
    ),
    counter('launches', 'Launches by kind: single kernels, and whole graphs.', () => {
      const now = stats();
      return [launches('kernel', now.launches), launches('graph', now.graphLaunches)];
    }),
    counter('steps', 'Sampling steps.', () => [{ labels, value: stats().steps }]),
    new Reading(
      'bridgekeeper:steps_per_launch',
      'gauge',
      'Decode steps that a launch holds now.',
      () => [{ labels, value: stats().stepsPerLaunch }],
    ),
  ];
}
