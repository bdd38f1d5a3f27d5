import {
  type Expression,
  ebnfGrammar,
  type Grammar,
  GrammarError,
  jsonObjectGrammar,
  regularExpression,
  schemaGrammar,
} from '@bridgekeeper/engine/grammar';
import { JsonError, readJsonValue } from '@bridgekeeper/engine/text';
import { answerGrammar } from '../formats/answer-grammar.ts';
import { CallWriter } from '../formats/call-writer.ts';
import type { ContentRule, GrammarTask } from './task.ts';

const NO_RULES: Grammar['rules'] = new Map();

/** The grammar of a whole answer. Throws GrammarError. */
export function taskGrammar({ content, answer }: GrammarTask): Grammar {
  const must = content && contentGrammar(content);
  if (answer !== undefined) return answerGrammar(answer, must);
  return must ?? { root: { kind: 'free', tags: [] }, rules: NO_RULES };
}

function contentGrammar(content: ContentRule): Grammar {
  switch (content.kind) {
    case 'json-schema':
      return schemaGrammar(schemaOf(content.schema), { order: content.order });
    case 'json-object':
      return jsonObjectGrammar();
    case 'regex':
      return { root: regularExpression(content.pattern, 'whole'), rules: NO_RULES };
    case 'choice': {
      const options = content.options.map((text): Expression => ({ kind: 'text', text }));
      return { root: { kind: 'choice', options }, rules: NO_RULES };
    }
    case 'grammar':
      return ebnfGrammar(content.source);
    case 'structures':
      return structuresGrammar(content);
  }
}

function schemaOf(text: string): Parameters<typeof schemaGrammar>[0] {
  try {
    return readJsonValue(text);
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw new GrammarError('syntax', `the JSON schema ${error.message}`);
  }
}

/** Free text up to a trigger, with which a structure begins; and so on. */
function structuresGrammar({
  triggers,
  structures,
}: Extract<ContentRule, { kind: 'structures' }>): Grammar {
  const writer = new CallWriter({ tools: [], isParallel: true, tokens: new Map() });
  const free: Expression = {
    kind: 'free',
    tags: triggers.map((text) => ({ kind: 'text', text })),
  };
  const options = structures.map(({ begin, schema, end }, at): Expression => {
    if (!triggers.some((trigger) => begin.startsWith(trigger))) {
      throw new GrammarError('syntax', `structure ${at} begins with none of the triggers`);
    }
    const value = writer.adopt(schemaGrammar(schemaOf(schema)), `structure ${at}`);
    const [opening, closing] = [begin, end].map((text): Expression => ({ kind: 'text', text }));
    return { kind: 'sequence', parts: [opening!, value, closing!] };
  });
  const structure: Expression = { kind: 'choice', options };
  const more: Expression = { kind: 'sequence', parts: [structure, free] };
  const repeated: Expression = { kind: 'repeat', body: more, min: 0, max: undefined };
  return { root: { kind: 'sequence', parts: [free, repeated] }, rules: writer.rules };
}
