import { columns, duration, size, threeDigits } from '@bridgekeeper/report';

/** What of GET /v1/bridge is shown. */
export interface BridgeDocument {
  readonly device: Readonly<Record<string, unknown>>;
  readonly law: { readonly name: string; readonly reason: string };
  readonly policy: { readonly name: string; readonly reason: string };
  readonly uptime_seconds: number;
  readonly running: number;
  readonly waiting: number;
  readonly generated_tokens: number;
  readonly steps_per_launch: number;
  readonly steps_per_launch_reason: string;
  readonly per_generated_token: Readonly<Record<'crossings' | 'bytes' | 'launches', number>>;
  readonly lanes: readonly {
    readonly id: string;
    readonly crossings: number;
    readonly utilisation: number;
    readonly blocked_seconds: number;
  }[];
  readonly ledger: readonly {
    readonly purpose: string;
    readonly direction: string;
    readonly crossings: number;
    readonly bytes: number;
    readonly busy_seconds: number;
    readonly blocked_seconds: number;
  }[];
}

/** What of one moment of the stream is shown. */
export interface MomentDocument {
  readonly seq: number;
  readonly now_us: number;
  readonly lanes: readonly string[];
  readonly crossings: readonly (readonly number[])[];
  readonly launches: readonly (readonly number[])[];
  readonly dropped: number;
}

export interface Shown {
  readonly bridge: BridgeDocument | null;
  /** Of the last ten seconds, oldest first. */
  readonly moments: readonly MomentDocument[];
  readonly tokensPerSecond: number | null;
  /** How old it is, and why no newer one comes; null: it is live. */
  readonly age: { readonly seconds: number; readonly reason: string } | null;
}

const WINDOW_US = 10e6;
const LEVELS = ' ▁▂▃▄▅▆▇█';
const STRIP_MIN = 20;

/** Page 1 of the console as lines of a terminal of that width. */
export function screen(url: string, shown: Shown, width: number): readonly string[] {
  const { bridge, moments, age, tokensPerSecond } = shown;
  const state =
    age === null
      ? '● live'
      : `✕ ${age.reason}; ` +
        (bridge === null
          ? 'nothing was heard yet'
          : `what is shown is ${Math.round(age.seconds)} s old`);
  const lines = [`${url}  ${state}`];
  if (bridge === null) return lines;
  const { per_generated_token: each, device } = bridge;
  const rate = tokensPerSecond === null ? '–' : threeDigits(tokensPerSecond);
  lines.push(
    `${String(device.name ?? device.kind)}, law ${bridge.law.name}, ` +
      `policy ${bridge.policy.name}, ${bridge.steps_per_launch} steps a launch`,
    `${rate} tokens/s, ${bridge.running} running, ${bridge.waiting} waiting; a token: ` +
      `${each.crossings.toFixed(3)} crossings, ${size(each.bytes)}`,
    '',
    ...strips(moments, width),
    '',
    ...ledgerLines(bridge),
    '',
    ...laneLines(bridge),
    '',
    `law: ${bridge.law.reason}`,
    `policy: ${bridge.policy.reason}`,
    `steps: ${bridge.steps_per_launch_reason}`,
  );
  return lines.map((line) => line.slice(0, width));
}

/** How busy each lane was, ten seconds from left to right. */
function strips(moments: readonly MomentDocument[], width: number): readonly string[] {
  const last = moments.at(-1);
  if (last === undefined) return ['Lanes: nothing was heard yet.'];
  const names = ['GPU', 'thread waited', ...last.lanes.map((lane) => `lane ${lane}`)];
  const room = Math.max(...names.map((name) => name.length)) + 1;
  const cells = Math.max(STRIP_MIN, width - room - 1);
  const busyUs = names.map(() => new Float64Array(cells));
  const fromUs = last.now_us - WINDOW_US;
  const mark = (row: number, startUs: number, lengthUs: number) =>
    spread(busyUs[row]!, (startUs - fromUs) / WINDOW_US, lengthUs / WINDOW_US);
  for (const { now_us: nowUs, crossings, launches, lanes } of moments) {
    for (const [ago = 0, length = 0] of launches) mark(0, nowUs - ago, length);
    for (const [lane = 0, , ago = 0, length = 0, , blocked = 0] of crossings) {
      if (lane < last.lanes.length) mark(2 + lane, nowUs - ago, length);
      if (lanes[lane] === 'inline') mark(1, nowUs - ago, blocked);
    }
  }
  const dropped = moments.reduce((sum, moment) => sum + moment.dropped, 0);
  return [
    ...names.map((name, row) => `${name.padEnd(room)}${stripOf(busyUs[row]!)}`),
    `${' '.repeat(room)}-10 s${' '.repeat(Math.max(1, cells - 8))}now`,
    ...(dropped > 0 ? [`${dropped} crossings found no room and are not in it`] : []),
  ];
}

/** Adds a stretch, as parts of the whole, to the cells that it covers. */
function spread(cells: Float64Array, from: number, length: number): void {
  const to = Math.min(1, from + length);
  const count = cells.length;
  const first = Math.max(0, Math.floor(from * count));
  for (let cell = first; cell < count && cell / count < to; cell++) {
    const inside = Math.min(to, (cell + 1) / count) - Math.max(from, cell / count);
    cells[cell] = (cells[cell] ?? 0) + Math.max(0, inside) * count;
  }
}

function stripOf(busy: Float64Array): string {
  return [...busy]
    .map((part) => {
      // Something is never drawn as nothing.
      const level = part <= 0 ? 0 : Math.max(1, Math.round(Math.min(1, part) * 8));
      return LEVELS[level];
    })
    .join('');
}

const arrow = (direction: string) => (direction === 'h2d' ? '▲' : '▼');

function ledgerLines({ ledger }: BridgeDocument): readonly string[] {
  return columns([
    ['purpose', 'crossings', 'bytes', 'lane time', 'each', 'issuer waited'],
    ...ledger.map((entry) => [
      `${arrow(entry.direction)} ${entry.purpose}`,
      String(entry.crossings),
      size(entry.bytes),
      duration(entry.busy_seconds * 1e9),
      duration((entry.busy_seconds * 1e9) / Math.max(1, entry.crossings)),
      duration(entry.blocked_seconds * 1e9),
    ]),
  ]);
}

function laneLines({ lanes }: BridgeDocument): readonly string[] {
  return columns([
    ['lane', 'crossings', 'busy', 'issuer waited'],
    ...lanes.map((lane) => [
      lane.id,
      String(lane.crossings),
      `${(100 * lane.utilisation).toFixed(1)} %`,
      duration(lane.blocked_seconds * 1e9),
    ]),
  ]);
}
