import { UsageError } from '@bridgekeeper/server';
import type { BenchRequest, TextCodec } from './workload.ts';

const wrong = (where: string, what: string) =>
  new UsageError('bad-file', `--dataset-path, ${where}: ${what}`);

/**
 * JSON lines with a `prompt`, and with `output_tokens` where `outputTokens` is undefined. Throws
 * UsageError `bad-file` with the line that is wrong, never with what it says.
 */
export function* customRequests(
  text: string,
  outputTokens: number | undefined,
  codec: TextCodec | undefined,
): Generator<BenchRequest> {
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const where = `line ${index + 1}`;
    let record: { prompt?: unknown; output_tokens?: unknown } | null;
    try {
      record = JSON.parse(line);
    } catch {
      throw wrong(where, 'is not JSON');
    }
    const prompt = record?.prompt;
    const wanted = outputTokens ?? record?.output_tokens;
    if (typeof prompt !== 'string') throw wrong(where, 'needs a "prompt" that is text');
    if (!Number.isInteger(wanted) || (wanted as number) < 1) {
      throw wrong(where, 'needs "output_tokens", a whole number from 1');
    }
    const promptTokens = codec?.encode(prompt, true).length;
    yield { prompt, promptTokens, outputTokens: wanted as number };
  }
}

/** As vLLM prunes it: neither so short that it says nothing nor longer than old models could. */
const SHAREGPT_TOKENS_MIN = 4;
const SHAREGPT_PROMPT_TOKENS_MAX = 1024;
const SHAREGPT_TOKENS_MAX = 2048;

/**
 * First turns of ShareGPT's conversations (one JSON array), answered as long as they once were or
 * as `outputTokens` says. Throws UsageError `bad-file`.
 */
export function* sharegptRequests(
  text: string,
  outputTokens: number | undefined,
  codec: TextCodec,
): Generator<BenchRequest> {
  let entries: unknown;
  try {
    entries = JSON.parse(text);
  } catch {
    throw wrong('the file', 'is not JSON');
  }
  if (!Array.isArray(entries)) throw wrong('the file', 'must hold an array of conversations');
  for (const entry of entries as { conversations?: { value?: unknown }[] }[]) {
    const [prompt, answer] = (entry?.conversations ?? []).map((turn) => turn?.value);
    if (typeof prompt !== 'string' || typeof answer !== 'string') continue;
    const promptTokens = codec.encode(prompt, true).length;
    const wanted = outputTokens ?? codec.encode(answer, false).length;
    const tooShort = Math.min(promptTokens, outputTokens === undefined ? wanted : promptTokens);
    if (tooShort < SHAREGPT_TOKENS_MIN || promptTokens > SHAREGPT_PROMPT_TOKENS_MAX) continue;
    if (promptTokens + wanted > SHAREGPT_TOKENS_MAX) continue;
    yield { prompt, promptTokens, outputTokens: wanted };
  }
}
