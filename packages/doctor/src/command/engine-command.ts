import { CommandError, type ShellCommand, splitWords, type Word } from '@bridgekeeper/server';
import { type Option, type OptionTable, readOptions } from './options.ts';

export type EngineName = 'vllm' | 'sglang' | 'tensorrt-llm';

/** An engine's name as people write it. */
export const ENGINE_TITLES: Readonly<Record<EngineName, string>> = {
  vllm: 'vLLM',
  sglang: 'SGLang',
  'tensorrt-llm': 'TensorRT-LLM',
};

/** A configuration file that the command names, and the settings it holds. */
export interface EngineFile {
  readonly path: string;
  readonly settings: Readonly<Record<string, unknown>>;
}

/** The command that starts an engine, taken apart. */
export interface EngineCommand extends ShellCommand {
  readonly engine: EngineName;
  readonly options: readonly Option[];
  /** Index of the first word of the engine's program. */
  readonly program: number;
  /** Index of the word behind which a container's options go; null outside of containers. */
  readonly container: number | null;
  /** Indices of words that set variables: `A=1` in front, or behind `-e` of a container. */
  readonly assignments: readonly number[];
  /** Variables as the engine will see them, as far as they are known. */
  readonly variables: ReadonlyMap<string, string>;
  /** The version in the tag of a container image. */
  readonly taggedVersion: string | null;
  readonly file: EngineFile | null;
}

/** What is known besides the command itself. */
export interface CommandSurroundings {
  readonly variables?: ReadonlyMap<string, string>;
  readonly file?: EngineFile | null;
}

const TABLES: Readonly<Record<EngineName, OptionTable>> = {
  vllm: {
    aliases: {
      '-tp': 'tensor-parallel-size',
      '-pp': 'pipeline-parallel-size',
      '-dp': 'data-parallel-size',
      '-cc': 'compilation-config',
      '-O': 'compilation-config',
      '-q': 'quantization',
    },
    switches: new Set([
      'async-scheduling',
      'calculate-kv-scales',
      'disable-custom-all-reduce',
      'disable-frontend-multiprocessing',
      'disable-hybrid-kv-cache-manager',
      'disable-log-requests',
      'disable-log-stats',
      'disable-uvicorn-access-log',
      'enable-auto-tool-choice',
      'enable-chunked-prefill',
      'enable-eplb',
      'enable-expert-parallel',
      'enable-log-requests',
      'enable-lora',
      'enable-prefix-caching',
      'enable-prompt-tokens-details',
      'enable-sleep-mode',
      'enforce-eager',
      'headless',
      'language-model-only',
      'skip-mm-profiling',
      'trust-remote-code',
      'use-tqdm-on-load',
    ]),
  },
  sglang: {
    aliases: {
      '--tp': 'tensor-parallel-size',
      '--tp-size': 'tensor-parallel-size',
      '--pp': 'pipeline-parallel-size',
      '--pp-size': 'pipeline-parallel-size',
      '--dp': 'data-parallel-size',
      '--dp-size': 'data-parallel-size',
      '--model': 'model-path',
    },
    switches: new Set([
      'disable-cuda-graph',
      'disable-custom-all-reduce',
      'disable-overlap-schedule',
      'disable-radix-cache',
      'enable-cache-report',
      'enable-dp-attention',
      'enable-flashinfer-allreduce-fusion',
      'enable-hierarchical-cache',
      'enable-metrics',
      'enable-mixed-chunk',
      'enable-nccl-nvls',
      'enable-symm-mem',
      'enable-torch-compile',
      'enable-torch-symm-mem',
      'skip-server-warmup',
      'skip-tokenizer-init',
      'trust-remote-code',
    ]),
  },
  'tensorrt-llm': {
    aliases: {
      '--tp-size': 'tensor-parallel-size',
      '--pp-size': 'pipeline-parallel-size',
      '--extra-llm-api-options': 'config',
    },
    switches: new Set(['trust-remote-code', 'enable-chunked-prefill', 'grpc']),
  },
};

/** Takes a command apart. Throws CommandError where it is not one command that starts an engine. */
export function readEngineCommand(
  source: string,
  { variables = new Map(), file = null }: CommandSurroundings = {},
): EngineCommand {
  const command = splitWords(source);
  const start = findEngine(command.words);
  if (start === null) {
    throw new CommandError(
      'no-engine',
      'no engine in the command: known are vllm serve, python -m vllm..., ' +
        'sglang serve, python -m sglang.launch_server, and trtllm-serve',
    );
  }
  const { engine, program, argumentsFrom, taggedVersion } = start;
  const { container, assignments } = readPrefix(command.words, program);
  const own = assignments.map((index) => splitAssignment(command.words[index]!.text)!);
  return {
    ...command,
    engine,
    options: readOptions(command.words, argumentsFrom, TABLES[engine]),
    program,
    container,
    assignments,
    variables: new Map([...variables, ...own]),
    taggedVersion,
    file,
  };
}

interface Start {
  readonly engine: EngineName;
  readonly program: number;
  readonly argumentsFrom: number;
  readonly taggedVersion: string | null;
}

const MODULES: readonly (readonly [RegExp, EngineName])[] = [
  [/^vllm(?:\.|$)/, 'vllm'],
  [/^sglang(?:\.|$)/, 'sglang'],
  [/^tensorrt_llm\.commands\.serve$/, 'tensorrt-llm'],
];

const IMAGES: readonly (readonly [RegExp, EngineName])[] = [
  [/(?:^|\/)vllm-openai(?=[:@]|$)/, 'vllm'],
  [/(?:^|\/)sglang(?=[:@]|$)/, 'sglang'],
  [/(?:^|\/)tensorrt-llm\/release(?=[:@]|$)/, 'tensorrt-llm'],
];

/** The program behind wrappers: a command by name, a module, or an image whose entry it is. */
function findEngine(words: readonly Word[]): Start | null {
  const image = findImage(words);
  const taggedVersion = image?.version ?? null;
  for (let index = image === null ? 0 : image.index + 1; index < words.length; index++) {
    const { text } = words[index]!;
    const next = words[index + 1]?.text;
    const name = text.slice(text.lastIndexOf('/') + 1);
    const at = (engine: EngineName, argumentsFrom: number, program = index): Start => ({
      engine,
      program,
      argumentsFrom,
      taggedVersion,
    });
    if ((name === 'vllm' || name === 'sglang') && next === 'serve') return at(name, index + 2);
    if (name === 'trtllm-serve') return at('tensorrt-llm', index + 1);
    if (text === '-m' && next !== undefined) {
      const engine = MODULES.find(([pattern]) => pattern.test(next))?.[1];
      if (engine !== undefined) return at(engine, index + 2, Math.max(0, index - 1));
    }
  }
  if (image === null || image.engine !== 'vllm') return null;
  // The vLLM image's entry point is the server: what follows the image are its options.
  const { engine, index } = image;
  return { engine, program: index, argumentsFrom: index + 1, taggedVersion };
}

function findImage(words: readonly Word[]) {
  if (!words.some(({ text }) => /(?:^|\/)(?:docker|podman|nerdctl)$/.test(text))) return null;
  for (const [index, { text }] of words.entries()) {
    const engine = IMAGES.find(([pattern]) => pattern.test(text))?.[1];
    if (engine === undefined || !/[/:]/.test(text) || text.startsWith('-')) continue;
    return { engine, index, version: /:v?(\d+\.\d+[^-@]*)/.exec(text)?.[1] ?? null };
  }
  return null;
}

/** Variables set in front of the program, and where a container's own options go. */
function readPrefix(words: readonly Word[], program: number) {
  const assignments: number[] = [];
  const container = words.findIndex(({ text }, index) => text === 'run' && index < program);
  for (let index = 0; index < program; index++) {
    if (splitAssignment(words[index]!.text) === null) continue;
    const before = words[index - 1]?.text;
    const isOption = before === '-e' || before === '--env';
    const leads = index === 0 || assignments.includes(index - 1) || /^(?:env|sudo)$/.test(before!);
    if (container >= 0 ? isOption : leads) assignments.push(index);
  }
  return { container: container < 0 ? null : container, assignments };
}

/** `NAME=value` as a pair; null for anything else. */
export function splitAssignment(text: string): [string, string] | null {
  const match = /^([A-Za-z_]\w*)=(.*)$/s.exec(text);
  return match === null ? null : [match[1]!, match[2]!];
}
