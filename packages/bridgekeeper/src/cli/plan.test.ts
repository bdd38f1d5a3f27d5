import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { examine } from '@bridgekeeper/doctor';
import type { planDocument } from '@bridgekeeper/planner';
import { readConfiguration, SETTINGS, settingsWith } from '@bridgekeeper/server';
import { resolveFlags } from '@bridgekeeper/server/settings';
import { startTestServer } from '@bridgekeeper/server/testing';
import { afterAll, describe, expect, test } from 'vitest';
import { STORYTELLER, serve, stop } from '../testing/served-product.ts';
import { testIo } from '../testing/test-io.ts';
import { runCli } from './program.ts';

type PlanDocument = ReturnType<typeof planDocument>;

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-plan-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const file = (name: string, text?: string) => {
  const path = join(scratch, name);
  if (text !== undefined) writeFileSync(path, text);
  return path;
};

/** `bridgekeeper plan` with real files, in this process but for the threads that simulate. */
async function plan(...words: string[]) {
  const { io, out, err } = testIo({
    readFile: (path) => readFileSync(path, 'utf8'),
    writeFile: (path, text) => writeFileSync(path, text),
  });
  const code = await runCli(['plan', ...words], io);
  return { code, out: out.join('\n'), err: err.join('\n') };
}

const SMALL = [
  ...['--model', 'Qwen3-0.6B', '--gpu', 'h100', '--engine', 'vllm-v1-async,bridgekeeper-resident'],
  ...['--workload', '4 at a time, 64+16, 16 requests', '--max-num-seqs', '16', '--threads', '2'],
];

describe('a plan', () => {
  test('is text, a document, a page and timelines', async () => {
    const [html, trace, json] = [file('plan.html'), file('plan.trace.json'), file('plan.json')];
    const result = await plan(
      ...SMALL,
      ...['--sweep-concurrency', '1,8', '--slo-itl-ms', '100', '--fleet-rate', '2'],
      ...['--window', '0..40', '--html', html, '--perfetto', trace, '--out', json],
    );
    expect(result.err).not.toContain('bridgekeeper:');
    expect(result.code).toBe(0);
    expect(result.out).toMatch(/^Qwen3-0.6B on 1 x NVIDIA H100 SXM/);
    expect(result.out).toContain('How many for 2 req/s?');
    expect(readFileSync(html, 'utf8')).toMatch(/^<!doctype html>[\s\S]*<\/html>\n$/);
    const { traceEvents } = JSON.parse(readFileSync(trace, 'utf8'));
    expect(traceEvents.length).toBeGreaterThan(4);
    const document: PlanDocument = JSON.parse(readFileSync(json, 'utf8'));
    expect(document.command).toContain('--workload "4 at a time, 64+16, 16 requests"');
    expect(document.command).not.toContain(scratch);
    // Two laws, two engines; the load and two points.
    expect(document.runs).toHaveLength(2 * 2 * 3);
    for (const { metrics } of document.runs) {
      for (const value of Object.values(metrics)) expect(Number.isFinite(value)).toBe(true);
      expect(metrics.outputTokensPerSecond).toBeGreaterThan(0);
    }
  });

  test('is the same, bit for bit, whatever the number of threads', async () => {
    const words = [...SMALL, '--no-recommend', '--json'];
    const [one, two] = [await plan(...words, '--threads', '1'), await plan(...words)];
    const of = (text: string) => (JSON.parse(text) as PlanDocument).plan;
    expect(of(one.out)).toEqual(of(two.out));
  });

  test('gives serve a file that it takes, and engines what doctor leaves alone', async () => {
    const { out } = await plan(
      ...['--model', 'Qwen3-8B', '--gpu', 'b300', '--max-num-seqs', '16', '--json'],
      ...['--workload', '4 at a time, 64+16, 16 requests'],
      ...['--engine', 'vllm-v1-async,sglang-overlap,trtllm-overlap,bridgekeeper-resident'],
    );
    const { recommendations } = (JSON.parse(out) as PlanDocument).plan;
    const under = recommendations.filter(({ law }) => law === 'b300-cc');
    expect(under.map(({ family }) => family)).toEqual([
      'vllm',
      'sglang',
      'tensorrt-llm',
      'bridgekeeper',
    ]);
    for (const { family, start } of under) {
      if (family === 'bridgekeeper') {
        const settings = resolveFlags(SETTINGS, {
          flags: { config: 'bridgekeeper.yaml' },
          environment: {},
          readConfiguration: (path, named) =>
            readConfiguration(path, named, () => start.file!.text),
        }).values;
        expect(settings).toMatchObject({ model: 'Qwen/Qwen3-8B', maxNumSeqs: 16 });
        continue;
      }
      const settings = settingsWith({});
      const request = { settings, engineVariables: new Map<string, string>() };
      const { findings } = examine({
        ...request,
        engineCommand: start.command.replace(' --config trtllm.yaml', ''),
        assumeConfidential: true,
        assumeGpu: 'b300',
      });
      const changed = findings.filter(({ changes }) => changes.length > 0).map(({ id }) => id);
      expect([family, changed]).toEqual([family, []]);
    }
  });
});

describe('what cannot be planned is refused', () => {
  const ngram = '{"method": "ngram", "num_speculative_tokens": 4}';
  const gpu = ['--gpu', 'b300'];
  test.each([
    [['--gpu', 'b300'], /--model: say which/],
    [['--model', 'gpt-oss-20b'], /--gpu: say which/],
    [['--model', 'gpt-os-20b', ...gpu], /--model gpt-os-20b.*Nearest: gpt-oss-20b/],
    [['--model', 'Qwen3-8B', '--gpu', 'b30'], /--gpu b30: is not known; nearest: b300/],
    [['--model', 'Qwen3-8B', ...gpu, '--law', 'b300'], /--law b300.*nearest: b300-cc/],
    [['--model', 'Qwen3-8B', ...gpu, '--engine', 'vlm'], /--engine vlm.*nearest: vllm/],
    [['--model', 'Llama-3.3-70B', '--gpu', 'h100'], /does not fit.*--tensor-parallel-size 4/],
    [['--model', 'Qwen3-8B', ...gpu, '--workload', '4 req/fortnight, 1+1'], /no unit of time/],
    [['--model', 'Qwen3-8B', ...gpu, '--workload', 'no-such.jsonl'], /there is no such file/],
    [
      ['--model', 'Qwen3-8B', ...gpu, '--workload', '1 at a time, 50000+1'],
      /longer than the 40960/,
    ],
    [['--model', 'Qwen3-8B', ...gpu, '--max-model-len', '50000'], /Qwen3-8B has 40960/],
    [['--model', 'Qwen3-8B', ...gpu, '--fleet-rate', '3'], /needs a limit/],
    [['--model', 'Qwen3-8B', ...gpu, '--draft-acceptance', '0.5'], /nothing is drafted/],
    [['--model', 'Qwen3-8B', ...gpu, '--speculative-config', ngram], /add --draft-acceptance/],
    [['--model', 'Qwen3-8B', ...gpu, '--speculative-config', '{}'], /"method" must be "ngram"/],
    [['--model', 'Qwen3-8B', ...gpu, '--enable-expert-parallel'], /has no experts/],
    [['--model', 'Qwen3-8B', ...gpu, '--window', '9..3'], /--window: must be milliseconds/],
  ])('%j', async (words, message) => {
    const { code, err, out } = await plan(...words);
    expect([code, out]).toEqual([2, '']);
    expect(err).toMatch(message);
  });

  test('a trace with a wrong line, by its number', async () => {
    const trace = file(
      'trace.jsonl',
      '{"timestamp": 0, "input_length": 5, "output_length": 2}\n{\n',
    );
    const { code, err } = await plan('--model', 'Qwen3-8B', ...gpu, '--workload', trace);
    expect([code, err]).toEqual([2, expect.stringContaining('trace.jsonl, line 2: is not JSON')]);
    expect(err).not.toContain(scratch);
  });

  test('a folder whose config.json is none', async () => {
    const config = file('config.json', '{"hidden_size": 8}');
    const { code, err } = await plan('--model', config, ...gpu);
    expect([code, err]).toEqual([2, expect.stringMatching(/"num_hidden_layers" is missing/)]);
  });
});

describe('observing a server', () => {
  test('fits the steps of our own, on the cpu device', async () => {
    const served = await serve({ ...process.env }, '--model', STORYTELLER, '--receipts', 'off');
    try {
      const words = ['--concurrency', '1,2,4', '--prompt-tokens', '16', '--output-tokens', '24'];
      const { code, out, err } = await plan('observe', served.url, ...words, '--json');
      expect([code, err]).toEqual([0, expect.stringContaining('observe: 4 at a time')]);
      const { loads, fit, explanation } = JSON.parse(out);
      expect(loads.map(({ concurrency }: { concurrency: number }) => concurrency)).toEqual([
        1, 2, 4,
      ]);
      for (const load of loads) {
        expect(load).toMatchObject({ failed: 0, outputTokensMean: 24 });
        expect(load.stepNs).toBeGreaterThan(0);
      }
      expect(fit.fixedNs + fit.perRowNs).toBeGreaterThan(0);
      expect(explanation).toBeNull();
    } finally {
      await stop(served);
    }
  });

  test('says what of a step a prediction of the same loads leaves to the host', async () => {
    const server = await startTestServer();
    try {
      const words = ['--concurrency', '1,2', '--prompt-tokens', '8', '--output-tokens', '6'];
      const machine = ['--model', 'Qwen3-0.6B', '--gpu', 'h100'];
      const { code, out } = await plan('observe', server.url, ...words, ...machine);
      expect(code).toBe(0);
      expect(out).toMatch(/The host’s own work is .* of it; the prediction had/);
      expect(out).toMatch(/% of a step remain unexplained/);
    } finally {
      await server.stop(0);
    }
  });

  test('what was seen of the host is what plan believes of that engine', async () => {
    const server = await startTestServer();
    try {
      const words = ['--concurrency', '1,2', '--prompt-tokens', '8', '--output-tokens', '6'];
      const seen = file('observed.json');
      const out = ['--engine', 'vllm-v1-sync', '--out', seen];
      const machine = ['--model', 'Qwen3-0.6B', '--gpu', 'h100'];
      expect((await plan('observe', server.url, ...words, ...machine, ...out)).code).toBe(0);
      const load = ['--law', 'off', '--engine', 'vllm-v1-sync', '--workload', '2 at a time, 8+8'];
      const base = [...machine, ...load, '--no-recommend', '--json'];
      const stepNs = async (...more: readonly string[]) => {
        const { code, out: text } = await plan(...base, ...more);
        expect(code).toBe(0);
        return JSON.parse(text).plan.predictions[0].prediction.step.hostNs;
      };
      // How fast this machine is must not matter.
      const document = JSON.parse(readFileSync(seen, 'utf8'));
      document.explanation.hostNs = 3 * document.explanation.predictedHostNs;
      writeFileSync(seen, JSON.stringify(document));
      const [usual, observed] = [await stepNs(), await stepNs('--observed', seen)];
      expect(observed / usual).toBeCloseTo(3, 1);
    } finally {
      await server.stop(0);
    }
  });

  test.each([
    ['{', 'is not JSON'],
    ['{"runs": []}', 'is no document of plan observe'],
    ['{"engine": "vllm-v1-sync", "explanation": null}', 'without --model and --gpu'],
    [
      '{"engine": "vllm-v1-async", "explanation": {"hostNs": 1e6, "predictedHostNs": 0}}',
      'no step waited for the host',
    ],
  ])('%s is refused as what was observed', async (text, why) => {
    const seen = file('seen.json', text);
    const { code, err } = await plan('--model', 'Qwen3-8B', '--gpu', 'h100', '--observed', seen);
    expect([code, err]).toEqual([2, expect.stringContaining(why)]);
  });

  test('of a place where none is ends with 1', async () => {
    const { code, err } = await plan('observe', 'http://127.0.0.1:9');
    expect([code, err]).toEqual([1, expect.stringMatching(/cannot ask .*ECONNREFUSED/)]);
    const bad = await plan('observe', 'ftp://x');
    expect([bad.code, bad.err]).toEqual([2, expect.stringContaining('http or https address')]);
  });
});
