import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ElementType } from '@bridgekeeper/device';
import type { EngineOptions } from '../create.ts';
import {
  type Agreement,
  compareGreedy,
  compareLines,
  compareObserved,
  compareReferences,
  type GreedyAgreement,
  type SequenceLogprobs,
} from './agreement.ts';
import { writeModelFolder } from './model-folder.ts';
import { observe } from './observe.ts';
import type { RandomModel } from './random-models.ts';
import { type ReferenceErrors, ReferenceModel, referenceE4m3 } from './reference-model.ts';

/** Another implementation: log-probabilities of `sequences` under the model in `folder`. */
export type Peer = (
  folder: string,
  sequences: readonly (readonly number[])[],
) => Promise<readonly SequenceLogprobs[]>;

/** How one random model came out. Plain data. */
export interface ModelCheck extends Agreement, GreedyAgreement {
  readonly name: string;
  /** Largest `relativeError` allowed. */
  readonly tolerance: number;
  /** Largest `worstError` allowed. */
  readonly worstTolerance: number;
  /** What rounding keys and values to their format does by itself; 0 where it does not. */
  readonly kvRounding: number;
  /** What tokens do that are torn between experts, when logits are off by what may be expected. */
  readonly routing: number;
  /** Prompt tokens that came from pages of other sequences. */
  readonly prefixHitTokens: number;
  /**
   * Against the peer: the float64 reference, and the engine, whose own rounding of FP8 KV is then
   * part of its error. undefined: no peer.
   */
  readonly peer: { readonly reference: Agreement; readonly engine: Agreement } | undefined;
  /** What is wrong; empty is passed. */
  readonly faults: readonly string[];
}

/** Errors of an element type, over the spread of logits. */
const TOLERANCES = { f32: 2e-5, bf16: 2e-2 } as const;
/** Values of E4M3 lie at least this part of themselves apart. */
const E4M3_STEP = 1 / 16;
/** Of the float64 reference against a peer, which keeps some steps in float32. */
const PEER_TOLERANCE = 1e-4;
/** Other tokens may turn to another expert than those that one guess at the errors turns. */
const TORN = 2;
/** A single error may be this much larger than the root of the mean square. */
const WORST = 6;

/**
 * Largest relative error of logits. `kvRounding` is what rounding keys and values to E4M3 alone
 * does to them, in float64; 0 where they are not rounded.
 *
 * What rounding does to a key is spread evenly over the distance D of two E4M3 values: its mean
 * square is D^2 / 12. A key that comes with an error e is rounded to another value than the exact
 * one with probability e / D, and is then off by D: in the mean square by e D, which is 12 e / D
 * times what rounding does. It can be no more than two times, when both are rounded as if they had
 * nothing to do with each other. Errors of keys are taken to be as large as logits may have.
 */
export function toleranceOf(element: ElementType, kvRounding: number): number {
  const tolerance = TOLERANCES[element];
  const flips = Math.min(2, (12 * tolerance) / E4M3_STEP);
  return Math.hypot(tolerance, kvRounding * Math.sqrt(flips));
}

/**
 * Writes a random model into a temporary folder, lets the engine on `options.device` compute
 * sequences of it, several at once, and compares all log-probabilities with float64's. Closes the
 * device.
 */
export async function checkRandomModel(
  model: RandomModel,
  options: EngineOptions,
  peer?: Peer,
): Promise<ModelCheck> {
  const folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-random-model-'));
  try {
    await writeModelFolder(folder, model.folder);
    const { element } = options.device.info;
    const { sequences, prefixHitTokens } = await observe(model, { ...options, model: folder });
    const texts = sequences.map(({ tokens }) => tokens);
    const [{ exact, expected, torn }, ofPeer] = await Promise.all([
      referencesOf(model, folder, texts, TOLERANCES[element]),
      peer?.(folder, texts),
    ]);
    const kvRounding = compareReferences(sequences, exact, expected).relativeError;
    const routing = compareReferences(sequences, expected, torn);
    const tolerance = Math.hypot(toleranceOf(element, kvRounding), TORN * routing.relativeError);
    const worstTolerance = Math.max(tolerance * WORST, TORN * routing.worstError);
    const found = {
      name: model.name,
      tolerance,
      worstTolerance,
      kvRounding,
      routing: routing.relativeError,
      prefixHitTokens,
      ...compareObserved(sequences, expected),
      ...compareGreedy(sequences, expected, worstTolerance),
      peer: ofPeer && {
        reference: compareLines(exact, ofPeer),
        engine: compareObserved(sequences, ofPeer),
      },
    };
    return { ...found, faults: faultsOf(found) };
  } finally {
    await rm(folder, { recursive: true });
  }
}

/**
 * In float64: as a peer computes, with keys and values rounded as the engine stores them, and that
 * with router logits that are off by `routerError`.
 */
async function referencesOf(
  { kvFormat }: RandomModel,
  folder: string,
  texts: readonly (readonly number[])[],
  routerError: number,
): Promise<Readonly<Record<'exact' | 'expected' | 'torn', readonly SequenceLogprobs[]>>> {
  const linesOf = (reference: ReferenceModel) => texts.map((text) => reference.logprobs(text));
  const compute = (errors: ReferenceErrors) => linesOf(new ReferenceModel(folder, errors));
  const stored = kvFormat === 'element' ? {} : { roundKv: referenceE4m3 };
  const plain = new ReferenceModel(folder);
  const exact = linesOf(plain);
  const expected = kvFormat === 'element' ? exact : compute(stored);
  const torn = plain.hasRouter ? compute({ ...stored, routerError }) : expected;
  return { exact, expected, torn };
}

function faultsOf(check: Omit<ModelCheck, 'faults'>): string[] {
  const { tolerance, worstTolerance, peer } = check;
  const over = (what: string, value: number, limit: number) =>
    value <= limit ? [] : [`${what} ${value.toExponential(1)} exceeds ${limit.toExponential(1)}`];
  const differing = check.greedyDecided - check.greedyAgreed;
  return [
    ...over('relative error', check.relativeError, tolerance),
    ...over('worst error', check.worstError, worstTolerance),
    ...(differing === 0 ? [] : [`${differing} greedy tokens are not the reference's`]),
    ...(check.prefixHitTokens > 0 ? [] : ['no sequence hit the prefix of another']),
    ...over(
      "the reference's error to the peer",
      peer?.reference.relativeError ?? 0,
      PEER_TOLERANCE,
    ),
  ];
}
