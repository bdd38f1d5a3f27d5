import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { compileFunction, constants } from 'node:vm';
import type { HostGrammars } from '@bridgekeeper/engine/measure';
import { BenchError } from '../errors.ts';
import { byteFallbackTokens } from './made-up-vocabulary.ts';

/** What is used of @mlc-ai/web-xgrammar 0.1.27. */
interface XGrammar {
  readonly TokenizerInfo: {
    createTokenizerInfo(
      tokens: readonly string[],
      kind: 'byte_fallback',
      prependsSpace: boolean,
      size: number,
      stopIds: readonly number[],
    ): Promise<object>;
  };
  readonly GrammarCompiler: {
    createGrammarCompiler(tokenizer: object): Promise<{
      compileGrammar(ebnf: string, root: string): Promise<object>;
    }>;
  };
  readonly GrammarMatcher: { createGrammarMatcher(grammar: object): Promise<Matcher> };
}

interface Matcher {
  acceptToken(id: number): boolean;
  /** A new array, a bit for each token. */
  getNextTokenBitmask(): Promise<Int32Array>;
  reset(): void;
}

/**
 * The language of `flat` of json-lines.ts. Strings are written as XGrammar writes those of its own
 * JSON grammar, with what may follow them, so that its masks of them are made when it compiles:
 * with a repeat instead, a mask in a string takes a thousand times as long.
 */
const FLAT_LINES = String.raw`
root ::= line root | line
line ::= "{" pair more "\n"
more ::= "," pair more | "}"
pair ::= "\"" string ":" value
value ::= "\"" string | number | "true" | "false" | "null"
string ::= ("\"" | [^"\\\x00-\x1f] string | "\\" escape string) (= [,:}])
escape ::= ["\\/bfnrt] | "u" [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F]
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)?
`;

/**
 * XGrammar in WebAssembly, from a folder with the npm package @mlc-ai/web-xgrammar, as what makes
 * each mask in its step, of the made-up vocabulary with `size` tokens. Throws BenchError
 * 'not-ready' where the folder has no such package.
 */
export async function xgrammarMasks(folder: string, size: number): Promise<HostGrammars> {
  const { TokenizerInfo, GrammarCompiler, GrammarMatcher } = load(folder);
  // The last id, a control token, is what ends: the grammar of the device never ends.
  const stop = size - 1;
  const tokens = byteFallbackTokens(size);
  const info = await TokenizerInfo.createTokenizerInfo(tokens, 'byte_fallback', false, size, [
    stop,
  ]);
  const compiler = await GrammarCompiler.createGrammarCompiler(info);
  const grammar = await compiler.compileGrammar(FLAT_LINES, 'root');
  const matchers: Matcher[] = [];
  return {
    async begin(rows) {
      while (matchers.length < rows) {
        matchers.push(await GrammarMatcher.createGrammarMatcher(grammar));
      }
      for (const matcher of matchers) matcher.reset();
    },
    advance(row, token) {
      if (matchers[row]!.acceptToken(token)) return;
      throw new BenchError('not-ready', `XGrammar refuses token ${token}, which its mask admits`);
    },
    async maskOf(row) {
      const mask = await matchers[row]!.getNextTokenBitmask();
      mask[stop >> 5]! &= ~(1 << (stop & 31));
      return mask;
    },
  };
}

/** The package is made for browsers. Node.js loads it as CommonJS, which it does not say it is. */
function load(folder: string): XGrammar {
  const entry = resolve(join(folder, 'lib', 'index.js'));
  let source: string;
  try {
    source = readFileSync(entry, 'utf8');
  } catch {
    throw new BenchError(
      'not-ready',
      `--xgrammar needs the folder of npm's @mlc-ai/web-xgrammar: ${entry} is not there`,
    );
  }
  const names = ['exports', 'require', 'module', '__filename', '__dirname'];
  const run = compileFunction(source, names, {
    filename: entry,
    importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  });
  const exports = {};
  run(exports, createRequire(entry), { exports }, entry, join(folder, 'lib'));
  return exports as XGrammar;
}
