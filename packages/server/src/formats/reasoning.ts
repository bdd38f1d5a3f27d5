/** How a model tells its reasoning from what it says. */
export interface ReasoningFormat {
  readonly open: string;
  readonly close: string;
  /** What stands behind `open`, and is no part of the reasoning: the name of a channel. */
  readonly label?: string;
  /** The answer begins with it even where the prompt does not open it, and closes nothing. */
  readonly isAssumed?: true;
}

/** What most models use. */
export const THINK: ReasoningFormat = { open: '<think>', close: '</think>' };
/** Models whose prompts do not always open what they close. */
export const ASSUMED_THINK: ReasoningFormat = { ...THINK, isAssumed: true };
export const MISTRAL_THINK: ReasoningFormat = { open: '[THINK]', close: '[/THINK]' };
export const SEED_THINK: ReasoningFormat = { open: '<seed:think>', close: '</seed:think>' };
export const GEMMA_THOUGHT: ReasoningFormat = {
  open: '<|channel>',
  close: '<channel|>',
  label: 'thought',
};

/**
 * Where a prompt leaves reasoning: it ends with the tag that opens it, or closes it, or its last
 * message does, which the answer continues.
 */
export function reasoningAfter(
  { open, close, label = '', isAssumed }: ReasoningFormat,
  prompt: string,
  continued: string | undefined,
): 'open' | 'closed' | 'unsaid' {
  if (continued !== undefined) {
    return continued.lastIndexOf(open) > continued.lastIndexOf(close) ? 'open' : 'closed';
  }
  const end = prompt.trimEnd();
  if (end.endsWith(open) || (label !== '' && end.endsWith(open + label))) return 'open';
  if (end.endsWith(close)) return 'closed';
  return isAssumed === true ? 'open' : 'unsaid';
}
