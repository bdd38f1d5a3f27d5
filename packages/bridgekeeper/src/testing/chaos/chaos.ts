import { Dice } from '@bridgekeeper/device/testing';
import { type Answer, ask } from './ask.ts';
import { heldBy } from './process-watch.ts';
import { receiptViolations } from './receipts-check.ts';
import { losePackets, nowSeconds, sleep, World } from './world.ts';

export interface ChaosOptions {
  readonly seed: number;
  /** Faults are begun for so long. */
  readonly seconds: number;
  readonly clients: number;
  /** Which faults there are, of CHAOS_FAULTS. */
  readonly faults: readonly string[];
  readonly idleConnections?: number;
  readonly cutStreams?: number;
  readonly program?: string | undefined;
  readonly tell: (line: string) => void;
}

export interface ChaosResult {
  readonly seed: number;
  /** How often each was done; null: this machine does not let it be. */
  readonly faults: Readonly<Record<string, number | null>>;
  /** By their last word. */
  readonly answers: Readonly<Record<string, number>>;
  readonly receipts: { readonly checked: number; readonly excused: number };
  /** The longest from a fault until requests were taken, in seconds, by fault. */
  readonly backAfterSeconds: Readonly<Record<string, number>>;
  readonly held: { readonly before: object | null; readonly after: object | null };
  /** What did not hold; empty: all did. */
  readonly violations: readonly string[];
}

const PROMPTS = ['a fox', 'a king', 'two ships', 'a storm', 'an old house', 'the sea'].map(
  (what) => `Once upon a time there was ${what}`,
);
const TOKENS = 48;
/** Descriptors and memory that may be more at the end than at the beginning. */
const MORE_DESCRIPTORS = 24;
const MORE_MB = 200;

/** Errors that are an honest end of a request under these faults. */
const HONEST_ENDS = new Set([
  'done',
  'cut',
  'engine_failed',
  'engine_restarting',
  'shutting_down',
  'queue_full',
]);

interface Run extends Required<Pick<ChaosOptions, 'idleConnections' | 'cutStreams'>> {
  readonly world: World;
  readonly dice: Dice;
  readonly answers: Answer[];
  readonly violations: string[];
}

type Fault = (run: Run) => Promise<void>;

const FAULTS: Readonly<Record<string, Fault>> = {
  /** A launch fails while streams are open. */
  device: async ({ world }) => world.failDevice(),
  kill: ({ world }) => world.kill(),
  /** The next server starts while this one ends. */
  replace: ({ world }) => world.replace(),
  /** It stands still for a while, as on a host that was suspended. */
  stop: async ({ world, dice }) => {
    const { child } = world.server;
    child.kill('SIGSTOP');
    await sleep(0.5 + 2 * dice.uniform());
    child.kill('SIGCONT');
  },
  idle: async ({ world, idleConnections, violations }) => {
    const sockets = await world.idle(idleConnections);
    const answer = await ask(world.url, { prompt: PROMPTS[0]!, tokens: 4 });
    if (answer.end !== 'done') violations.push(`beside idle connections: ${answer.end}`);
    for (const socket of sockets) socket.destroy();
  },
  /** Clients that leave in the middle, many at once. */
  cut: async ({ world, dice, cutStreams, answers }) => {
    const { url } = world;
    const leave = () =>
      ask(url, { prompt: PROMPTS[dice.integer(0, 5)]!, tokens: TOKENS, cutAfter: 1 });
    answers.push(...(await Promise.all(Array.from({ length: cutStreams }, leave))));
  },
  disk: async ({ world, dice }) => {
    if (world.smallDisk === null) throw new Error('no file system of its own');
    world.fillDisk();
    await sleep(1 + 2 * dice.uniform());
    world.freeDisk();
  },
  loss: async ({ dice }) => {
    const end = losePackets(dice.integer(1, 15), dice.integer(0, 20));
    await sleep(2 + 3 * dice.uniform());
    end();
  },
};
export const CHAOS_FAULTS: readonly string[] = Object.keys(FAULTS);

/** Real processes under faults that a seed orders, and whether what must hold did. */
export async function runChaos(options: ChaosOptions): Promise<ChaosResult> {
  const { idleConnections = 2000, cutStreams = 500, tell } = options;
  const world = new World(options.program);
  const run: Run = {
    world,
    dice: new Dice(options.seed),
    answers: [],
    violations: [],
    idleConnections,
    cutStreams,
  };
  try {
    return await done(run, options);
  } catch (error) {
    tell(world.started.map(({ log }) => log().slice(-4000)).join('\n'));
    throw error;
  } finally {
    world.remove();
  }
}

async function done(run: Run, options: ChaosOptions): Promise<ChaosResult> {
  const { world, answers, violations } = run;
  await world.start();
  const golden = new Map<string, string>();
  const all = () =>
    Promise.all(PROMPTS.map((prompt) => ask(world.url, { prompt, tokens: TOKENS })));
  answers.push(...(await all()));
  for (const { prompt, text } of answers) golden.set(prompt, text);
  const before = heldBy(world.server.child.pid!);
  const { counts, back } = await troubled(run, options);
  await world.untilReady();
  const last = await all();
  answers.push(...last);
  for (const { end } of last) if (end !== 'done') violations.push(`at the end: ${end}`);
  // The last receipts are on their way.
  await sleep(1.5);
  violations.push(...answers.flatMap((answer) => answerViolations(answer, golden, world)));
  const receipts = await receiptViolations(world, answers);
  violations.push(...receipts.violations);
  const after = heldBy(world.server.child.pid!);
  if (before !== null && after !== null) {
    if (after.descriptors > before.descriptors + MORE_DESCRIPTORS) {
      violations.push(`descriptors grew from ${before.descriptors} to ${after.descriptors}`);
    }
    if (after.residentMb > before.residentMb + MORE_MB) {
      violations.push(`memory grew from ${before.residentMb} to ${after.residentMb} MB`);
    }
  }
  const code = await world.stop();
  if (code !== 0) violations.push(`the last server ended with ${code}`);
  const ends: Record<string, number> = {};
  for (const { end } of answers) ends[end] = (ends[end] ?? 0) + 1;
  const { checked, excused } = receipts;
  return {
    seed: options.seed,
    faults: counts,
    answers: ends,
    receipts: { checked, excused },
    backAfterSeconds: back,
    held: { before, after },
    violations,
  };
}

/** Clients that go on, and faults one after the other. */
async function troubled(run: Run, { seconds, clients, faults, tell }: ChaosOptions) {
  const { world, dice, answers, violations } = run;
  const counts: Record<string, number | null> = Object.fromEntries(faults.map((name) => [name, 0]));
  const back: Record<string, number> = {};
  let isOver = false;
  const client = async (): Promise<void> => {
    while (!isOver) {
      const prompt = PROMPTS[dice.integer(0, PROMPTS.length - 1)]!;
      const cut = dice.uniform() < 0.1 ? { cutAfter: 3 } : {};
      const answer = await ask(world.url, { prompt, tokens: TOKENS, ...cut });
      answers.push(answer);
      await sleep((answer.end === 'done' ? 0.02 : 0.5) + 0.2 * dice.uniform());
    }
  };
  const running = Array.from({ length: clients }, client);
  const endSeconds = nowSeconds() + seconds;
  // Each once, in an order of the seed, and then at random.
  const first = dice.permutation(faults.length).map((at) => faults[at]!);
  try {
    while (first.length > 0 || nowSeconds() < endSeconds) {
      const name = first.shift() ?? faults[dice.integer(0, faults.length - 1)]!;
      if (counts[name] === null) continue;
      await sleep(0.2 + 0.8 * dice.uniform());
      const startedSeconds = nowSeconds();
      try {
        await FAULTS[name]!(run);
      } catch (error) {
        if (name !== 'disk' && name !== 'loss') throw error;
        counts[name] = null;
        continue;
      }
      counts[name]! += 1;
      await world.untilReady();
      const tookSeconds = nowSeconds() - startedSeconds;
      back[name] = Math.round(Math.max(back[name] ?? 0, tookSeconds) * 100) / 100;
      tell(`${name}: requests are taken ${tookSeconds.toFixed(2)} s after it began`);
    }
  } catch (error) {
    violations.push(error instanceof Error ? error.message : String(error));
  }
  isOver = true;
  await Promise.all(running);
  return { counts, back };
}

/** How long a connection may take to notice what happened at its other end. */
const NOTICE_SECONDS = 1;

function answerViolations(
  answer: Answer,
  golden: ReadonlyMap<string, string>,
  { outages }: World,
): string[] {
  const { fault, end, text, prompt, status, startedSeconds, endedSeconds } = answer;
  const whole = golden.get(prompt)!;
  const found: string[] = [];
  if (fault !== null) found.push(`a stream: ${fault}`);
  // A connection that ended without a word is one to a process that did.
  const isExcused =
    end === 'lost' &&
    outages.some(
      ({ from, to }) =>
        startedSeconds < to + NOTICE_SECONDS && endedSeconds > from - NOTICE_SECONDS,
    );
  if (!HONEST_ENDS.has(end) && !isExcused) found.push(`an answer ended with ${end} (${status})`);
  if (!whole.startsWith(text)) found.push(`other tokens after "${prompt}" (${end})`);
  return found;
}
