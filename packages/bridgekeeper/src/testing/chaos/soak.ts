import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { drawChart } from '@bridgekeeper/report';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import { LAUNCHER } from '../../launcher.ts';
import { type Served, serveWith, stop } from '../served-product.ts';
import { type Answer, ask } from './ask.ts';
import { heldBy } from './process-watch.ts';

export interface SoakOptions {
  readonly minutes: number;
  /** Clients, each of which asks, reads, rests and asks again. */
  readonly clients: number;
  readonly restSeconds: number;
  readonly sampleSeconds: number;
  /** The product's program; by default the one that this is built with. */
  readonly program?: string | undefined;
  readonly tell: (line: string) => void;
}

/** What one interval was like. */
export interface SoakSample {
  readonly minute: number;
  readonly residentMb: number;
  readonly descriptors: number;
  readonly threads: number;
  readonly kvPages: number;
  readonly kvPlaces: number;
  readonly running: number;
  readonly answers: number;
  readonly refused: number;
  readonly firstTokenMs: { readonly p50: number; readonly p99: number };
  readonly answerMs: { readonly p50: number; readonly p99: number };
}

export interface SoakResult {
  readonly minutes: number;
  readonly answers: number;
  /** Answers that were not the first one to the same prompt. */
  readonly otherTexts: number;
  readonly faults: readonly string[];
  readonly receipts: { readonly issued: number; readonly written: number; readonly lost: number };
  readonly exitCode: number | null;
  readonly samples: readonly SoakSample[];
}

const PROMPTS = 24;
const TOKENS = 40;
/** One in so many leaves early. */
const CUT_EVERY = 11;

interface Metered {
  readonly running: number;
  readonly kv: {
    readonly resident: { readonly device: number };
    readonly places: { readonly device: number };
  };
}

/** A server under a light load for long. What it holds should be as at the beginning. */
export async function soak(options: SoakOptions): Promise<SoakResult> {
  const folder = mkdtempSync(join(tmpdir(), 'bridgekeeper-soak-'));
  const env = { ...process.env, XDG_STATE_HOME: folder };
  const flags = ['--receipts', join(folder, 'receipts.sqlite'), '--receipts-max', '500'];
  const served = await serveWith(options.program ?? LAUNCHER, env, flags);
  try {
    return await soaked(served, options);
  } finally {
    await stop(served);
    rmSync(folder, { recursive: true, force: true });
  }
}

async function soaked(served: Served, options: SoakOptions): Promise<SoakResult> {
  const { minutes, clients, restSeconds, sampleSeconds, tell } = options;
  const { url, child } = served;
  const startNs = HOST_CLOCK.nowNs();
  const endNs = startNs + minutes * 60e9;
  const firstTexts = new Map<string, string>();
  const faults: string[] = [];
  const samples: SoakSample[] = [];
  let fresh: Answer[] = [];
  let answers = 0;
  let otherTexts = 0;
  let asked = 0;

  const client = async (): Promise<void> => {
    while (HOST_CLOCK.nowNs() < endNs && child.exitCode === null) {
      asked += 1;
      const prompt = `Once upon a time there were ${asked % PROMPTS} `;
      const cut = asked % CUT_EVERY === 0 ? { cutAfter: 5 } : {};
      const answer = await ask(url, { prompt, tokens: TOKENS, ...cut });
      fresh.push(answer);
      if (answer.fault !== null) faults.push(answer.fault);
      if (answer.end === 'done') {
        answers += 1;
        const first = firstTexts.get(prompt);
        if (first === undefined) firstTexts.set(prompt, answer.text);
        else if (first !== answer.text) otherTexts += 1;
      }
      await HOST_CLOCK.sleepUntilNs(HOST_CLOCK.nowNs() + restSeconds * 1e9);
    }
  };
  const json = async <T>(path: string) => (await (await fetch(`${url}${path}`)).json()) as T;
  const watch = async (): Promise<void> => {
    for (let nth = 1; HOST_CLOCK.nowNs() < endNs && child.exitCode === null; nth++) {
      await HOST_CLOCK.sleepUntilNs(Math.min(endNs, startNs + nth * sampleSeconds * 1e9));
      const { running, kv } = await json<Metered>('/v1/bridge');
      const held = heldBy(child.pid!) ?? { residentMb: 0, descriptors: 0, threads: 0 };
      const done = fresh.filter(({ end }) => end === 'done');
      const refused = fresh.filter(({ end }) => end !== 'done' && end !== 'cut').length;
      fresh = [];
      const sample = {
        minute: Math.round(((HOST_CLOCK.nowNs() - startNs) / 60e9) * 100) / 100,
        ...held,
        residentMb: Math.round(held.residentMb * 10) / 10,
        kvPages: kv.resident.device,
        kvPlaces: kv.places.device,
        running,
        answers: done.length,
        refused,
        firstTokenMs: quantiles(done.map(({ firstMs }) => firstMs)),
        answerMs: quantiles(done.map(({ totalMs }) => totalMs)),
      };
      samples.push(sample);
      const { minute, residentMb, descriptors, firstTokenMs } = sample;
      tell(
        `${minute} min: RSS ${residentMb} MB, ${descriptors} descriptors, ${answers} answers, ` +
          `first token ${firstTokenMs.p50} ms (p99 ${firstTokenMs.p99})`,
      );
    }
  };
  await Promise.all([watch(), ...Array.from({ length: clients }, client)]);
  const key = await json<{ since_start: SoakResult['receipts'] }>('/v1/receipts/key');
  const exitCode = await stop(served);
  const { since_start: receipts } = key;
  return { minutes, answers, otherTexts, faults, receipts, exitCode, samples };
}

function quantiles(values: readonly number[]): { p50: number; p99: number } {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) =>
    Math.round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0);
  return { p50: at(0.5), p99: at(0.99) };
}

/** A picture over the time: what is held, or how long answers take. */
export function drawSoak({ samples }: SoakResult, what: 'held' | 'latency'): string {
  const over = (colour: number, name: string, read: (sample: SoakSample) => number) => ({
    name,
    colour,
    style: 'line' as const,
    points: samples.map((sample) => [sample.minute, read(sample)] as const),
  });
  const axis = (title: string) => ({ title, isLog: false, text: String });
  const x = axis('minutes');
  return what === 'held'
    ? drawChart({
        title: 'What a server under light load holds',
        x,
        y: axis('MB of memory; descriptors; KV pages / 10'),
        series: [
          over(0, 'resident memory, MB', ({ residentMb }) => residentMb),
          over(1, 'descriptors', ({ descriptors }) => descriptors),
          over(2, 'KV pages with content / 10', ({ kvPages }) => kvPages / 10),
        ],
      })
    : drawChart({
        title: 'How long answers take meanwhile',
        x,
        y: axis('ms'),
        series: [
          over(0, 'first token, p50', ({ firstTokenMs }) => firstTokenMs.p50),
          over(1, 'first token, p99', ({ firstTokenMs }) => firstTokenMs.p99),
          over(2, 'answer, p50', ({ answerMs }) => answerMs.p50),
          over(3, 'answer, p99', ({ answerMs }) => answerMs.p99),
        ],
      });
}
