import type { LinkLaw } from './law.ts';
import type { Move, PeerGpus } from './peers.ts';

/** GPUs that reach each other as a law says: for plans, and where there are none. */
export function modelPeers(law: LinkLaw, count: number): PeerGpus {
  /** Both directions of a pair share what they have together; pairs share nothing. */
  const slowestRate = (moves: readonly Move[]): number => {
    const isBothWays = moves.some((move) =>
      moves.some(({ from, to }) => from === move.to && to === move.from),
    );
    return isBothWays ? law.bothWaysBytesPerSecond / 2 : law.bytesPerSecond;
  };
  const rounded = (moves: readonly Move[], bytes: number, rounds: number) =>
    law.awaitedTollNs -
    law.queuedTollNs +
    rounds * (law.queuedTollNs + (bytes / slowestRate(moves)) * 1e9);
  return {
    kind: 'model',
    gpus: Array.from({ length: count }, (_, i) => ({ name: `${law.name} ${i}`, bdf: null })),
    reaches: () => true,
    copy: rounded,
    move: (moves, _by, bytes, rounds) => rounded(moves, bytes, rounds),
    load: (_move, loads) => law.awaitedTollNs + loads * law.loadNs,
    arrives: () => true,
    close: () => undefined,
  };
}
