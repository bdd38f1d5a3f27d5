import { type MeasuredRun, quantile, summarise } from '@bridgekeeper/report';
import { flag, integer, number } from '@bridgekeeper/server';
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
};

const STUB = new URL('./stub.js', import.meta.url);
const GATEWAY = new URL('./gateway-process.js', import.meta.url);
const TICK_MS = 2;

/** The gateway's own cost: local replicas that stream at a rate, with it between and without. */
export const GATEWAY_SUITE: Suite<typeof FLAGS> = {
  name: 'gateway',
  summary: 'what the gateway costs: tokens a second of a core, time to first token, open streams',
  flags: FLAGS,
  run: async (values, progress) => {
    const stubs: ListeningChild[] = [];
    let gateway: ListeningChild | undefined;
    try {
      for (let index = 0; index < values.replicas; index++) {
        stubs.push(await ListeningChild.start(STUB, { tickMs: TICK_MS }));
      }
      gateway = await ListeningChild.start(GATEWAY, { ports: stubs.map(({ port }) => port) });
      const direct = stubs[0]!;
      const { promptBytes, requests, repeats } = values;
      const full = planOf(values.streams, values.rate, values.seconds, 1);
      const bursts = planOf(values.streams, values.rate, values.seconds, values.burst);
      const wide = planOf(values.openStreams, values.openRate, values.seconds, 1);
      const runs = [
        await firstTokens(direct, gateway, { promptBytes, requests, repeats }, progress),
        await streams('full', full, direct, null, repeats, progress),
        await streams('full', full, gateway, gateway, repeats, progress),
        await streams('bursts', bursts, direct, null, repeats, progress),
        await streams('bursts', bursts, gateway, gateway, repeats, progress),
      ];
      if (wide.streams > 0) runs.push(await streams('open', wide, gateway, gateway, 1, progress));
      return { device: { name: 'stub', driver: null }, runs, ...failureOf(runs) };
    } finally {
      gateway?.stop();
      for (const stub of stubs) stub.stop();
    }
  },
};

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

/** One way and the other in turn, so that whatever else the machine does falls on both. */
async function firstTokens(
  direct: ListeningChild,
  gateway: ListeningChild,
  { requests, promptBytes, repeats }: FirstTokenPlan,
  progress: (line: string) => void,
): Promise<MeasuredRun> {
  const ways = [new FirstTokenClient(direct.port), new FirstTokenClient(gateway.port)] as const;
  const padding = (index: number) => `${index} `.padEnd(promptBytes, 'the sea was calm ');
  try {
    for (let index = 0; index < 50; index++) for (const way of ways) await way.measure(padding(0));
    const passes: MeasuredRun['metrics'][] = [];
    for (let repeat = 0; repeat < repeats; repeat++) {
      const taken: [number[], number[]] = [[], []];
      const before = await gateway.usage();
      for (let index = 0; index < requests; index++) {
        for (const at of [0, 1] as const) taken[at].push(await ways[at].measure(padding(index)));
      }
      const cpuSeconds = (await gateway.usage()).cpuSeconds - before.cpuSeconds;
      const [without, through] = taken.map((seconds) => [...seconds].sort((a, b) => a - b));
      const ms = (seconds: readonly number[], q: number) => quantile(seconds, q) * 1e3;
      const metrics = {
        directTtftMsP50: ms(without!, 0.5),
        gatewayTtftMsP50: ms(through!, 0.5),
        addedTtftMsP50: ms(through!, 0.5) - ms(without!, 0.5),
        directTtftMsP99: ms(without!, 0.99),
        gatewayTtftMsP99: ms(through!, 0.99),
        gatewayCpuMsPerRequest: (cpuSeconds / requests) * 1e3,
      };
      passes.push(metrics);
      progress(
        `adds ${metrics.addedTtftMsP50.toFixed(3)} ms to the first token at the median, ` +
          `and takes ${metrics.gatewayCpuMsPerRequest.toFixed(3)} ms of its core`,
      );
    }
    return summarise({ part: 'first token', requests, promptBytes }, passes);
  } finally {
    for (const way of ways) way.close();
  }
}

async function streams(
  part: string,
  plan: StreamsPlan,
  target: ListeningChild,
  gateway: ListeningChild | null,
  repeats: number,
  progress: (line: string) => void,
): Promise<MeasuredRun> {
  const passes: MeasuredRun['metrics'][] = [];
  const way = gateway === null ? 'direct' : 'gateway';
  for (let repeat = 0; repeat < repeats; repeat++) {
    const before = await target.usage();
    const { seconds, tokens, broken } = await readStreams(target.port, plan);
    const after = await target.usage();
    const cpuSeconds = after.cpuSeconds - before.cpuSeconds;
    passes.push({
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
  return summarise({ part, way, ...plan }, passes);
}
