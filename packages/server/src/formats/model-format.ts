import type { Tokenizer } from '@bridgekeeper/engine/text';
import { type AnswerFormat, tagsOf } from './answer-reader.ts';
import {
  detectFormats,
  type FormatNames,
  formatOf,
  type ReasoningParserName,
  type ToolParserName,
} from './catalogue.ts';
import { TagMarks } from './tags.ts';

/** What a model writes beside text, and by which of its tokens. */
export interface ModelFormat {
  readonly names: FormatNames;
  readonly format: AnswerFormat;
  readonly marks: TagMarks;
}

/** What is said about it: a name of vLLM's, or what the chat template shows, or nothing. */
export interface FormatChoice {
  readonly tools: ToolParserName | 'auto' | 'off';
  readonly reasoning: ReasoningParserName | 'auto' | 'off';
}

export const AUTOMATIC: FormatChoice = { tools: 'auto', reasoning: 'auto' };

/** undefined: the model writes nothing but text, as far as is known. */
export function modelFormat(
  { tools, reasoning }: FormatChoice,
  tokenizer: Pick<Tokenizer, 'addedTokenId' | 'chatTemplate'>,
): ModelFormat | undefined {
  const shown = detectFormats((signs) => tokenizer.chatTemplate.shows(signs));
  const names = {
    tools: chosen(tools, shown.tools),
    reasoning: chosen(reasoning, shown.reasoning),
  };
  const format = formatOf(names);
  if (format === undefined) return undefined;
  const marks = new TagMarks(tagsOf(format), (tag) => tokenizer.addedTokenId(tag));
  return { names, format, marks };
}

function chosen<T extends string>(said: T | 'auto' | 'off', shown: T | undefined): T | undefined {
  if (said === 'auto') return shown;
  return said === 'off' ? undefined : said;
}
