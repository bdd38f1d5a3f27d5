/** OpenAI's usage block. */
export interface Usage {
  readonly prompt_tokens: number;
  readonly total_tokens: number;
  readonly completion_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
  /** Absent where reasoning is not told apart from the answer. */
  readonly completion_tokens_details?: { readonly reasoning_tokens: number };
}
