import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type MeasuredRun, quantile, summarise } from '@bridgekeeper/report';
import { flag, integer, number, text } from '@bridgekeeper/server';
import type { Suite } from '../suite.ts';
import { ListeningChild } from './child.ts';
import { FirstTokenClient, readStreams, type StreamsPlan } from './client.ts';

const FLAGS = {
  streams: flag(integer(1, 32_768), 1000, 'streams at a time, at full rate'),
  rate: flag(number(0.1, 1000), 50, 'tokens a second of each of them'),
  burst: flag(integer(1, 64), 8, 'tokens that leave together, in a further measurement'),
  seconds: flag(number(1, 600), 8, 'how long each stream lasts'),
  openStreams: flag(integer(0, 32_768), 5000, 'streams that are open at once, at a low rate'),
  openRate: flag(number(0.1, 1000), 1, 'tokens a second of each of these'),
  requests: flag(integer(1, 1e6), 400, 'requests for the time to the first token, each way'),
  promptBytes: flag(integer(1, 2 ** 19), 1000, 'of each of them'),
  replicas: flag(integer(1, 64), 2, 'replicas behind the gateway'),
  repeats: flag(integer(1, 100), 3, 'measured passes'),
  against: flag(
    text('folder'),
    undefined,
    'another checkout, built: its gateway is measured in turn with this one',
  ),
};

const STUB = new URL('./stub.js', import.meta.url);
const GATEWAY = new URL('./gateway-process.js', import.meta.url);
const GATEWAY_PATH = 'packages/bench/dist/gateway/gateway-process.js';
const TICK_MS = 2;

/** The gateway's own cost: local replicas that stream at a rate, with it between and without. */
export const GATEWAY_SUITE: Suite<typeof FLAGS> = {
  name: 'gateway',
  summary: 'what the gateway costs: tokens a second of a core, time to first token, open streams',
  flags: FLAGS,
  run: async (values, progress) => {
    const stubs: ListeningChild[] = [];
    const gateways: Way[] = [];
    try {
      for (let index = 0; index < values.replicas; index++) {
        stubs.push(await ListeningChild.start(STUB, { tickMs: TICK_MS }));
      }
      const ports = stubs.map(({ port }) => port);
      gateways.push({ way: 'gateway', target: await ListeningChild.start(GATEWAY, { ports }) });
      if (values.against !== undefined) {
        const file = pathToFileURL(join(values.against, GATEWAY_PATH));
        gateways.push({ way: 'other build', target: await ListeningChild.start(file, { ports }) });
      }
      const all = [{ way: 'direct', target: stubs[0]! }, ...gateways];
      const { promptBytes, requests, repeats } = values;
      const full = planOf(values.streams, values.rate, values.seconds, 1);
      const bursts = planOf(values.streams, values.rate, values.seconds, values.burst);
      const wide = planOf(values.openStreams, values.openRate, values.seconds, 1);
      const runs = [
        ...(await firstTokens(stubs[0]!, gateways, { promptBytes, requests, repeats }, progress)),
        ...(await streams('full', full, all, repeats, progress)),
        ...(await streams('bursts', bursts, all, repeats, progress)),
      ];
      if (wide.streams > 0) runs.push(...(await streams('open', wide, gateways, 1, progress)));
      return { device: { name: 'stub', driver: null }, runs, ...failureOf(runs) };
    } finally {
      for (const { target } of gateways) target.stop();
      for (const stub of stubs) stub.stop();
    }
  },
};

/** What requests go through, and the process whose use of the machine is measured. */
interface Way {
  readonly way: string;
  readonly target: ListeningChild;
}

/** Whole bursts, of about so many seconds. */
const planOf = (
  streams: number,
  tokensPerSecond: number,
  seconds: number,
  burst: number,
): StreamsPlan => ({
  streams,
  tokensPerSecond,
  burst,
  tokens: burst * Math.max(1, Math.round((tokensPerSecond * seconds) / burst)),
});

function failureOf(runs: readonly MeasuredRun[]): { readonly failure?: string } {
  const broken = runs.some(({ metrics }) => (metrics.brokenStreams ?? 0) > 0);
  return broken ? { failure: 'streams were broken' } : {};
}

interface FirstTokenPlan {
  readonly requests: number;
  readonly promptBytes: number;
  readonly repeats: number;
}

/** All ways in turn, so that whatever else the machine does falls on each of them. */
async function firstTokens(
  direct: ListeningChild,
  gateways: readonly Way[],
  { requests, promptBytes, repeats }: FirstTokenPlan,
  progress: (line: string) => void,
): Promise<MeasuredRun[]> {
  const own = new FirstTokenClient(direct.port);
  const measured = gateways.map(({ way, target }) => {
    const passes: MeasuredRun['metrics'][] = [];
    return { way, target, client: new FirstTokenClient(target.port), passes };
  });
  const clients = [own, ...measured.map(({ client }) => client)];
  const padding = (index: number) => `${index} `.padEnd(promptBytes, 'the sea was calm ');
  try {
    for (let index = 0; index < 50; index++) {
      for (const client of clients) await client.measure(padding(0));
    }
    for (let repeat = 0; repeat < repeats; repeat++) {
      const before = await Promise.all(measured.map(({ target }) => target.usage()));
      const taken = clients.map((): number[] => []);
      for (let index = 0; index < requests; index++) {
        for (const [at, client] of clients.entries()) {
          taken[at]!.push(await client.measure(padding(index)));
        }
      }
      const [without, ...through] = taken.map((seconds) => seconds.toSorted((a, b) => a - b));
      for (const [at, { way, target, passes }] of measured.entries()) {
        const cpuSeconds = (await target.usage()).cpuSeconds - before[at]!.cpuSeconds;
        const metrics = firstTokenMetrics(without!, through[at]!, cpuSeconds / requests);
        passes.push(metrics);
        progress(
          `${way} adds ${metrics.addedTtftMsP50.toFixed(3)} ms to the first token at the median, ` +
            `and takes ${metrics.gatewayCpuMsPerRequest.toFixed(3)} ms of its core`,
        );
      }
    }
    return measured.map(({ way, passes }) =>
      summarise({ part: 'first token', way, requests, promptBytes }, passes),
    );
  } finally {
    for (const client of clients) client.close();
  }
}

/** Of seconds in ascending order. */
function firstTokenMetrics(
  without: readonly number[],
  through: readonly number[],
  cpuSecondsPerRequest: number,
) {
  const ms = (seconds: readonly number[], q: number) => quantile(seconds, q) * 1e3;
  return {
    directTtftMsP50: ms(without, 0.5),
    gatewayTtftMsP50: ms(through, 0.5),
    addedTtftMsP50: ms(through, 0.5) - ms(without, 0.5),
    directTtftMsP99: ms(without, 0.99),
    gatewayTtftMsP99: ms(through, 0.99),
    gatewayCpuMsPerRequest: cpuSecondsPerRequest * 1e3,
  };
}

/** All ways in turn. */
async function streams(
  part: string,
  plan: StreamsPlan,
  ways: readonly Way[],
  repeats: number,
  progress: (line: string) => void,
): Promise<MeasuredRun[]> {
  const passes = ways.map((): MeasuredRun['metrics'][] => []);
  for (let repeat = 0; repeat < repeats; repeat++) {
    for (const [at, { way, target }] of ways.entries()) {
      const before = await target.usage();
      const { seconds, tokens, broken } = await readStreams(target.port, plan);
      const after = await target.usage();
      const cpuSeconds = after.cpuSeconds - before.cpuSeconds;
      passes[at]!.push({
        tokensPerSecond: tokens / seconds,
        tokensPerCpuSecond: tokens / cpuSeconds,
        cores: cpuSeconds / seconds,
        residentMiB: after.residentBytes / 2 ** 20,
        brokenStreams: broken,
      });
      progress(
        `${part}, ${way}: ${Math.round(tokens / seconds)} tokens/s, ` +
          `${Math.round(tokens / cpuSeconds)} a second of its core, ${broken} broken`,
      );
    }
  }
  return ways.map(({ way }, at) => summarise({ part, way, ...plan }, passes[at]!));
}
