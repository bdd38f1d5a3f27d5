import { profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { expect, test } from 'vitest';
import { VirtualClock } from '../clock/virtual-clock.ts';
import { CommandWriter } from '../command.ts';
import type { Device, Graph, HostBuffer, Slice, Stream } from '../device.ts';
import { slice } from '../device.ts';
import {
  CONTROL_WORDS,
  FINISH,
  MAX_BIAS,
  RESULT,
  RESULT_HEADER_WORDS,
  RESULT_WORDS,
  ROW,
  ROW_WORDS,
  resultSlotWords,
  TARGET,
} from '../row-layout.ts';
import { openModelDevice } from './model-device.ts';

const ROWS = 4;
const VOCAB = 50;
const LAYERS = 36;
const RING_SLOTS = 8;
const HEADS = { heads: 32, kvHeads: 8, headDim: 128 };
const LAYER_ELEMENTS = 2 * 8 * 16 * 128;
const STOP_IDS = Array.from({ length: 32 }, (_, i) => i);

/** A decode step of the attention layers of an 8B model, with its row state, on a modelled GPU. */
class Decoder {
  readonly clock = new VirtualClock();
  readonly device: Device = openModelDevice({
    clock: this.clock,
    law: profileLaw(referenceProfile('h100-cc')),
  });
  readonly stream: Stream = this.device.createStream('decode');
  readonly graph: Graph;
  readonly #words = (count: number, label: string) => slice(this.device.allocate(count * 4, label));
  readonly #rows = this.#words(ROWS * ROW_WORDS, 'rows');
  readonly #command = this.#words(1024, 'command');
  readonly #results = this.#words(RING_SLOTS * resultSlotWords(ROWS), 'results');
  readonly #sent: HostBuffer = this.device.allocateHost(4096, 'pinned', 'sent');
  readonly #drained: HostBuffer = this.device.allocateHost(
    this.#results.bytes,
    'pinned',
    'drained',
  );
  readonly #writer = new CommandWriter(new Int32Array(this.#sent.bytes.buffer), 16);

  constructor() {
    const decodeRows = this.#words(ROWS, 'decodeRows');
    const tokenRows = this.#words(ROWS, 'tokenRows');
    const positions = this.#words(ROWS, 'positions');
    const tokens = this.#words(ROWS, 'tokens');
    const control = this.#words(CONTROL_WORDS, 'control');
    const counts = this.#words(ROWS * VOCAB, 'counts');
    const pageTable = this.#words(ROWS * 64, 'pageTable');
    const unused = this.#words(ROWS, 'unused');
    const sampled = this.#words(ROWS, 'sampled');
    const activations = slice(this.device.allocate(1 << 20, 'activations'));
    const kv = slice(this.device.allocate(1e9, 'kv'));
    const targets = {
      rows: this.#rows,
      pageTable,
      decodeRows,
      tokens,
      tokenRows,
      positions,
      control,
      bias: this.#words(ROWS * MAX_BIAS * 2, 'bias'),
      select: unused,
      selectRows: unused,
      promptSelect: unused,
      promptTargets: unused,
      grammarRows: unused,
      history: unused,
      windowTable: unused,
    };
    const batch = { rows: this.#rows, decodeRows, tokens, tokenRows, positions, count: ROWS };
    const lines = {
      rows: this.#rows,
      control,
      counts,
      sampled,
      lineRows: tokenRows,
      count: ROWS,
      vocab: VOCAB,
      ringSlots: RING_SLOTS,
      ringLines: ROWS,
    };
    const attention = {
      qkv: activations,
      sinks: null,
      out: activations,
      kv,
      pageTable,
      tokenRows,
      positions,
      ...HEADS,
      lineKv: 'keys and values' as const,
      queryNorm: null,
      keyNorm: null,
      valueNorm: false,
      normOffset: 0 as const,
      rotaryDim: 128,
      epsilon: 0,
      rope: activations,
      kvFormat: 'element' as const,
      count: ROWS,
      scale: 1,
      window: 0,
      phase: 'decode' as const,
      pageElements: LAYERS * LAYER_ELEMENTS,
      pageTokens: 16,
      pagesPerRow: 64,
    };
    const grammars = {
      grammarRows: unused,
      grammarPool: unused,
      tokenSpans: unused,
      tokenHeads: unused,
      tokenBytes: unused,
    };
    const sampling = {
      ...lines,
      linesPerRow: 1,
      logits: activations,
      bias: targets.bias,
      masks: unused,
      logprobs: activations,
    };
    this.graph = this.device.capture(this.stream, 'decode', () => {
      const command = { command: this.#command, counts, vocab: VOCAB, maxRecords: 16 };
      this.stream.launch('apply-command', { ...targets, ...command });
      this.stream.launch('begin-decode', batch);
      for (let layer = 0; layer < LAYERS; layer++) {
        const layerElement = layer * LAYER_ELEMENTS;
        this.stream.launch('attention', { ...attention, layerElement });
      }
      this.stream.launch('sample', sampling);
      this.stream.launch('advance', { ...lines, ...grammars, results: this.#results });
    });
  }

  /** Sends rows that decode from `position`, with tokens to go, and launches their first step. */
  async start(position: number, remaining: number): Promise<void> {
    for (let row = 0; row < ROWS; row++) {
      const words = new Int32Array(ROW_WORDS);
      words[ROW.ACTIVE] = 1;
      words[ROW.POSITION] = position;
      words[ROW.REMAINING] = remaining;
      words[ROW.SEED_LO] = row;
      words[ROW.EPOCH] = 10 + row;
      words[ROW.STOP_COUNT] = STOP_IDS.length;
      words.set(STOP_IDS, ROW.STOP_IDS);
      this.#writer.write(TARGET.ROWS, row * ROW_WORDS, words);
      this.#writer.write(TARGET.DECODE_ROWS, row, [row]);
    }
    const bytes = this.#writer.finish();
    await this.#copy('h2d', { ...this.#command, bytes }, this.#sent);
  }

  /** Sends a command that changes nothing. */
  async idle(): Promise<void> {
    const bytes = this.#writer.finish();
    await this.#copy('h2d', { ...this.#command, bytes }, this.#sent);
  }

  async step(): Promise<void> {
    this.stream.launchGraph(this.graph);
    await this.stream.synchronize();
  }

  /** The result lines of the slot of step `index`. */
  async results(index: number): Promise<number[][]> {
    await this.#copy('d2h', this.#results, this.#drained);
    const words = new Int32Array(this.#drained.bytes.buffer);
    const start = (index % RING_SLOTS) * resultSlotWords(ROWS) + RESULT_HEADER_WORDS;
    return Array.from({ length: ROWS }, (_, line) => {
      return [...words.subarray(start + line * RESULT_WORDS, start + (line + 1) * RESULT_WORDS)];
    });
  }

  async #copy(direction: 'h2d' | 'd2h', device: Slice, host: HostBuffer): Promise<void> {
    const purpose = direction === 'h2d' ? 'command' : 'tokens';
    const from = { direction, device, host, hostOffsetBytes: 0, stream: this.stream } as const;
    await this.device.inlineLane.copy({ ...from, purpose, tenant: 'test' });
  }
}

/** Decodes `steps` tokens of every row from `position`; returns each step's time and results. */
async function decode(position: number, steps: number) {
  const decoder = new Decoder();
  const program = async () => {
    const seen: { stepNs: number; lines: number[][] }[] = [];
    await decoder.start(position, steps);
    for (let i = 0; i < steps; i++) {
      const startNs = decoder.clock.nowNs();
      await decoder.step();
      const stepNs = decoder.clock.nowNs() - startNs;
      seen.push({ stepNs, lines: await decoder.results(i) });
      await decoder.idle();
    }
    return seen;
  };
  return decoder.clock.runUntil(program());
}

test('rows decode until they end, with tokens that never stop them', async () => {
  const seen = await decode(100, 5);
  seen.forEach(({ lines }, index) => {
    lines.forEach((line, row) => {
      expect(line[RESULT.ROW]).toBe(row);
      expect(line[RESULT.EPOCH]).toBe(10 + row);
      expect(line[RESULT.TOKEN]).toBeGreaterThanOrEqual(STOP_IDS.length);
      expect(line[RESULT.TOKEN]).toBeLessThan(VOCAB);
      expect(line[RESULT.FINISH]).toBe(index === 4 ? FINISH.LENGTH : FINISH.NONE);
    });
  });
  const tokens = seen.flatMap(({ lines }) => lines.map((line) => line[RESULT.TOKEN]));
  expect(new Set(tokens).size).toBeGreaterThan(3);
});

test('tokens depend on the seed and not on the run', async () => {
  expect(await decode(100, 3)).toEqual(await decode(100, 3));
});

test('a step takes as long as its positions say', async () => {
  const { roofline, submission } = referenceProfile('h100-cc');
  const steps = await decode(200_000, 3);
  const perPositionNs = (LAYERS * ROWS * 2 * 8 * 128 * 2 * 1e9) / roofline.copyBytesPerSecond;
  // Queries in and out, keys and values in; then the position's own key and value are written.
  const linesNs = (LAYERS * ROWS * (2 * 32 + 2 * 8) * 128 * 2 * 1e9) / roofline.copyBytesPerSecond;
  const nodesNs = (LAYERS + 4) * submission.graphNodeNs + 4 * roofline.kernelNs;
  const waitNs = submission.launchWithWaitNs - submission.launchNs;
  steps.forEach(({ stepNs }, index) => {
    const kernelsNs = perPositionNs * (200_002 + index) + linesNs + nodesNs;
    expect(stepNs).toBe(submission.graphLaunchNs + Math.round(kernelsNs) + waitNs);
  });
});
