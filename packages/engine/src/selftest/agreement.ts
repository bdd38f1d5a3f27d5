import type { ObservedSequence } from './observe.ts';

/** Log-probabilities of the next token after each token of a sequence: [tokens][vocabulary]. */
export type SequenceLogprobs = readonly Float64Array[];

/** How near two sets of log-probabilities are. */
export interface Agreement {
  /** Log-probabilities that were compared. */
  readonly compared: number;
  /** Standard deviation of a line of logits: the unit of both errors. */
  readonly spread: number;
  /** Root of the mean square. */
  readonly relativeError: number;
  readonly worstError: number;
}

/** How many greedy tokens are the reference's. */
export interface GreedyAgreement {
  readonly greedyTokens: number;
  /** Of these, where the reference's best leads by more than two worst errors. */
  readonly greedyDecided: number;
  readonly greedyAgreed: number;
}

/** Gathers errors of log-probabilities in units of the spread of logits. */
class Errors {
  #compared = 0;
  #squares = 0;
  #worst = 0;
  #lines = 0;
  #variances = 0;

  add(actual: number, expected: number): void {
    const error = Math.abs(actual - expected);
    this.#compared += 1;
    this.#squares += error * error;
    // A NaN must not pass as the smallest error.
    if (!(error <= this.#worst)) this.#worst = Number.isNaN(error) ? Infinity : error;
  }

  addLine(line: Float64Array): void {
    const mean = line.reduce((sum, value) => sum + value, 0) / line.length;
    this.#variances += line.reduce((sum, value) => sum + (value - mean) ** 2, 0) / line.length;
    this.#lines += 1;
  }

  agreement(): Agreement {
    const spread = Math.sqrt(this.#variances / this.#lines);
    const mean = Math.sqrt(this.#squares / this.#compared);
    return {
      compared: this.#compared,
      spread,
      relativeError: Number.isNaN(mean) ? Infinity : mean / spread,
      worstError: this.#worst / spread,
    };
  }
}

/** Compares all that the engine said with the lines `expected` has for the same sequences. */
export function compareObserved(
  sequences: readonly ObservedSequence[],
  expected: readonly SequenceLogprobs[],
): Agreement {
  const errors = new Errors();
  sequences.forEach(({ tokens, lines }, index) => {
    for (const { position, line } of lines) {
      const wanted = expected[index]![position]!;
      errors.addLine(wanted);
      errors.add(line.logprob, wanted[tokens[position + 1]!]!);
      for (const { token, logprob } of line.top) errors.add(logprob, wanted[token]!);
    }
  });
  return errors.agreement();
}

/** Compares two references where the engine said something. */
export function compareReferences(
  sequences: readonly ObservedSequence[],
  expected: readonly SequenceLogprobs[],
  other: readonly SequenceLogprobs[],
): Agreement {
  const errors = new Errors();
  sequences.forEach(({ tokens, lines }, index) => {
    for (const { position, line } of lines) {
      const wanted = expected[index]![position]!;
      errors.addLine(wanted);
      for (const token of [tokens[position + 1]!, ...line.top.map((each) => each.token)]) {
        errors.add(other[index]![position]![token]!, wanted[token]!);
      }
    }
  });
  return errors.agreement();
}

/** Compares two references in everything. */
export function compareLines(
  expected: readonly SequenceLogprobs[],
  other: readonly SequenceLogprobs[],
): Agreement {
  const errors = new Errors();
  expected.forEach((lines, index) => {
    lines.forEach((line, position) => {
      errors.addLine(line);
      const beside = other[index]![position]!;
      for (let token = 0; token < line.length; token++) errors.add(beside[token]!, line[token]!);
    });
  });
  return errors.agreement();
}

/** `worstTolerance` is in units of the spread of logits. */
export function compareGreedy(
  sequences: readonly ObservedSequence[],
  expected: readonly SequenceLogprobs[],
  worstTolerance: number,
): GreedyAgreement {
  const counts = { greedyTokens: 0, greedyDecided: 0, greedyAgreed: 0 };
  const { spread } = compareObserved(sequences, expected);
  sequences.forEach(({ tokens, promptTokens }, index) => {
    for (let position = promptTokens; position < tokens.length; position++) {
      const line = expected[index]![position - 1]!;
      const [best, second] = [...line.keys()].sort((a, b) => line[b]! - line[a]!);
      const isDecided = line[best!]! - line[second!]! > 2 * worstTolerance * spread;
      counts.greedyTokens += 1;
      counts.greedyDecided += isDecided ? 1 : 0;
      counts.greedyAgreed += isDecided && tokens[position] === best ? 1 : 0;
    }
  });
  return counts;
}
