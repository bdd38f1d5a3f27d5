import type { EngineStats } from '@bridgekeeper/engine';

/** What one interval brought: the differences of the engine's counters, as rates. */
export interface IntervalSummary {
  readonly text: string;
  /** Nothing ran and nothing waited. */
  readonly idle: boolean;
}

function bridgeTotals({ bridge }: EngineStats) {
  const sums = { h2d: 0, d2h: 0, blockedNs: 0 };
  for (const { direction, bytes, blockedNs } of bridge.totals) {
    if (direction === 'h2d') sums.h2d += bytes;
    else sums.d2h += bytes;
    sums.blockedNs += blockedNs;
  }
  return sums;
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'] as const;

/** 1536 -> "1.5 kB" */
export function readableBytes(bytes: number): string {
  const magnitude = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  const value = bytes / 1000 ** magnitude;
  return `${value.toFixed(magnitude === 0 || value >= 100 ? 0 : 1)} ${UNITS[magnitude]}`;
}

/** One line for what happened between two looks at the engine, `seconds` apart. */
export function summarise(
  before: EngineStats,
  after: EngineStats,
  seconds: number,
): IntervalSummary {
  const rate = (count: number) => (count / seconds).toFixed(1);
  const percent = (share: number) => `${(100 * share).toFixed(1)}%`;
  const prompt = after.promptTokens - before.promptTokens;
  const generated = after.generatedTokens - before.generatedTokens;
  const queried = after.prefixQueriedTokens - before.prefixQueriedTokens;
  const hits = after.prefixHitTokens - before.prefixHitTokens;
  const from = bridgeTotals(before);
  const to = bridgeTotals(after);
  const parts = [
    `prompt ${rate(prompt)} tok/s`,
    `generation ${rate(generated)} tok/s`,
    `running ${after.running}`,
    `waiting ${after.waiting}`,
    `KV ${percent(after.kvUsage)}`,
    `prefix hits ${queried > 0 ? percent(hits / queried) : '-'}`,
    `bridge H2D ${readableBytes((to.h2d - from.h2d) / seconds)}/s`,
    `D2H ${readableBytes((to.d2h - from.d2h) / seconds)}/s`,
    `blocked ${percent((to.blockedNs - from.blockedNs) / (seconds * 1e9))}`,
  ];
  const idle = prompt + generated + after.running + after.waiting === 0;
  return { text: parts.join(', '), idle };
}
