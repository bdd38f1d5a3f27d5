import { Draws } from '@bridgekeeper/planner/workload';

/** Kinds of traffic whose prompts share beginnings, each in its own way. */
export const TRAFFIC_KINDS = ['multi-turn', 'agentic', 'system-prompt', 'single-use'] as const;
export type TrafficKind = (typeof TRAFFIC_KINDS)[number];

/** A line of Mooncake's format. */
interface MooncakeRecord {
  readonly timestamp: number;
  readonly input_length: number;
  readonly output_length: number;
  readonly hash_ids: readonly number[];
}

/** How a session of a kind goes. Times in seconds, lengths in tokens, ends included. */
interface SessionShape {
  /** System prompts that sessions begin with, and how long they are; 0 of them: none. */
  readonly systems: number;
  readonly systemTokens: number;
  readonly turns: readonly [least: number, most: number];
  /** What a turn adds to the prompt besides the last answer. */
  readonly addedTokens: readonly [least: number, most: number];
  readonly answerTokens: readonly [least: number, most: number];
  /** Mean of the exponential time from one turn to the next. */
  readonly pauseSeconds: number;
}

/** People read answers; agents wait for tools; what has a system prompt asks once. */
const SHAPES: Readonly<Record<TrafficKind, SessionShape>> = {
  'multi-turn': {
    systems: 4,
    systemTokens: 1024,
    turns: [1, 8],
    addedTokens: [64, 4096],
    answerTokens: [32, 800],
    pauseSeconds: 120,
  },
  agentic: {
    systems: 2,
    systemTokens: 16384,
    turns: [5, 60],
    addedTokens: [128, 6144],
    answerTokens: [32, 400],
    pauseSeconds: 15,
  },
  'system-prompt': {
    systems: 16,
    systemTokens: 8192,
    turns: [1, 1],
    addedTokens: [64, 1024],
    answerTokens: [32, 400],
    pauseSeconds: 1,
  },
  'single-use': {
    systems: 0,
    systemTokens: 0,
    turns: [1, 1],
    addedTokens: [1024, 16384],
    answerTokens: [32, 400],
    pauseSeconds: 1,
  },
};

export interface TrafficOptions {
  readonly kind: TrafficKind;
  readonly sessions: number;
  /** How many begin in a second, on average. */
  readonly sessionsPerSecond: number;
  readonly chunkTokens: number;
  /** No prompt is longer: a session that would exceed it ends. */
  readonly maxTokens: number;
  readonly seed: number;
}

/** Requests in Mooncake's format, in order of time; the same for the same seed. */
export function generateTraffic(options: TrafficOptions): string {
  const { kind, sessions, sessionsPerSecond, seed } = options;
  const starts = new Draws(seed, 'arrivals');
  let startSeconds = 0;
  const records: MooncakeRecord[] = [];
  for (let session = 0; session < sessions; session++) {
    startSeconds += starts.gamma(1) / sessionsPerSecond;
    records.push(...sessionOf(SHAPES[kind], session, startSeconds, options));
  }
  const ordered = records.sort((a, b) => a.timestamp - b.timestamp);
  return ordered.map((record) => `${JSON.stringify(record)}\n`).join('');
}

function sessionOf(
  shape: SessionShape,
  session: number,
  startSeconds: number,
  { chunkTokens, maxTokens, seed }: TrafficOptions,
): MooncakeRecord[] {
  const draws = new Draws(seed, 'lengths', session);
  const system = shape.systems === 0 ? null : draws.integer(0, shape.systems - 1);
  const systemTokens = system === null ? 0 : shape.systemTokens;
  const turns = draws.integer(...shape.turns);
  const records: MooncakeRecord[] = [];
  let atSeconds = startSeconds;
  let inputTokens = systemTokens;
  for (let turn = 0; turn < turns; turn++) {
    inputTokens += draws.integer(...shape.addedTokens);
    if (inputTokens > maxTokens) break;
    const outputTokens = draws.integer(...shape.answerTokens);
    const chunks = Math.ceil(inputTokens / chunkTokens);
    const isFull = (chunk: number) => (chunk + 1) * chunkTokens <= inputTokens;
    records.push({
      timestamp: Math.round(atSeconds * 1000),
      input_length: inputTokens,
      output_length: outputTokens,
      // What the last turn left of a chunk is another chunk once it is full.
      hash_ids: Array.from({ length: chunks }, (_, chunk) => {
        if (system !== null && (chunk + 1) * chunkTokens <= systemTokens) {
          return idOf(0, system, chunk, 0);
        }
        return idOf(1, session, chunk, isFull(chunk) ? 0 : turn + 1);
      }),
    });
    inputTokens += outputTokens;
    atSeconds += draws.gamma(1) * shape.pauseSeconds;
  }
  return records;
}

/** A number of its own for each chunk: 12 bits of chunk, 8 of turn, and whose it is. */
function idOf(kind: 0 | 1, owner: number, chunk: number, turn: number): number {
  return ((owner * 2 + kind) * 2 ** 12 + chunk) * 2 ** 8 + turn;
}
