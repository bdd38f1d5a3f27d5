import type { GrammarErrorCode } from '@bridgekeeper/engine/grammar';
import type { AnswerRules } from '../formats/answer-grammar.ts';

/** What a client says that the text of an answer must be. Plain data: it crosses threads. */
export type ContentRule =
  /** A text of JSON that fulfils a schema, which is a text of JSON itself. */
  | {
      readonly kind: 'json-schema';
      readonly schema: string;
      /** Properties in the schema's order, or in any. */
      readonly order: 'declared' | 'free';
    }
  | { readonly kind: 'json-object' }
  /** From end to end. */
  | { readonly kind: 'regex'; readonly pattern: string }
  | { readonly kind: 'choice'; readonly options: readonly string[] }
  /** EBNF. */
  | { readonly kind: 'grammar'; readonly source: string }
  /** Any text, in which structures are held to their schemas, as XGrammar's structural tags. */
  | {
      readonly kind: 'structures';
      readonly triggers: readonly string[];
      readonly structures: readonly {
        readonly begin: string;
        readonly schema: string;
        readonly end: string;
      }[];
    };

/** What is compiled to one grammar. */
export interface GrammarTask {
  /** undefined: any text. */
  readonly content: ContentRule | undefined;
  /** How the model writes reasoning and calls around it; undefined: there is nothing around. */
  readonly answer: AnswerRules | undefined;
}

/** To the worker. */
export interface WorkerTask {
  readonly id: number;
  readonly task: GrammarTask;
}

/** From the worker: tables in shared memory, or why there are none. */
export type WorkerReply =
  | { readonly id: number; readonly words: Uint32Array }
  | { readonly id: number; readonly code: GrammarErrorCode; readonly message: string };
