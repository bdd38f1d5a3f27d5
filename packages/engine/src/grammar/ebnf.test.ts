import { describe, expect, test } from 'vitest';
import { compileGrammar } from './compile.ts';
import { ebnfGrammar } from './ebnf.ts';
import { GrammarError } from './errors.ts';
import { TableWalk } from './testing/table-walk.ts';

/** Which of the texts the grammar admits. */
function admitted(source: string, texts: readonly string[]): readonly string[] {
  const start = TableWalk.start(compileGrammar(ebnfGrammar(source)));
  const utf8 = new TextEncoder();
  return texts.filter((text) => start.afterAll(utf8.encode(text))?.canEnd ?? false);
}

function refusal(source: string): string {
  try {
    compileGrammar(ebnfGrammar(source));
    return 'none';
  } catch (error) {
    if (!(error instanceof GrammarError)) throw error;
    return `${error.code}: ${error.message}`;
  }
}

describe('grammars of llama.cpp and XGrammar', () => {
  test('arithmetic', () => {
    const source = `
      # precedence
      root  ::= sum "\\n"?
      sum   ::= term (("+" | "-") term)*
      term  ::= factor (("*" | "/")
                factor)*
      factor ::= number | "(" sum ")"
      number ::= [0-9]+ ("." [0-9]{1,2})?`;
    const texts = ['1+2*3', '(1-2)*(3+4.25)\n', '((1))', '1+', '(1', '1.234', ''];
    expect(admitted(source, texts)).toEqual(texts.slice(0, 3));
  });

  test('classes, escapes, bounds, any character and tokens', () => {
    const source = `root ::= [^a-c\\]\\x20]{2} "\\t\\u00e9\\"" . ([-x] | "é"){0,} <[7]>`;
    const token = '\u00ff\u0000\u0000\u0007';
    const start = TableWalk.start(compileGrammar(ebnfGrammar(source)));
    const after = start.afterAll(new TextEncoder().encode('zd\té"😀-xé'));
    expect(after?.afterAll(Uint8Array.from(token, (byte) => byte.charCodeAt(0)))?.canEnd).toBe(
      true,
    );
    for (const text of ['a', 'z]', 'z ', 'zd\té"😀y']) {
      expect(start.afterAll(new TextEncoder().encode(text))).toBe(undefined);
    }
  });

  test('recursion at the start of a rule is a repeat where it is written so', () => {
    const source = 'root ::= root "," item | item\nitem ::= [a-z] | "(" root ")"';
    const texts = ['a', 'a,b,(c,d)', ',a', 'a,'];
    expect(admitted(source, texts)).toEqual(texts.slice(0, 2));
  });

  test('is refused with the place where it is wrong', () => {
    expect(refusal('root ::= "a')).toMatch(/^syntax: line 1, column 12 .* does not end/);
    expect(refusal('root ::= "a"\nroot ::= "b"')).toMatch(/^syntax: line 2, column 1 .* twice/);
    expect(refusal('root ::= (a\na ::= "x"')).toMatch(/^syntax: line 2, column 1 .*\) is missing/);
    expect(refusal('root ::= "a" )')).toMatch(/^syntax: line 1, column 14/);
    expect(refusal('root ::= [a')).toMatch(/^syntax/);
    expect(refusal('root ::= "a"{3,1}')).toMatch(/^syntax: .*out of order/);
    expect(refusal('root ::= "\\q"')).toMatch(/^syntax: .*unknown escape/);
    expect(refusal('root ::= other')).toMatch(/^unknown-rule: .*"other"/);
    expect(refusal('first ::= "a"')).toMatch(/^unknown-rule: .*"root"/);
    expect(refusal('root ::= a "x"\na ::= b\nb ::= root | "y"')).toMatch(/^left-recursion/);
    expect(refusal('root ::= "a" (= "b") "b"')).toMatch(/^unsupported: .*lookahead/);
    expect(refusal('root ::= TagDispatch(("a", b))')).toMatch(/^unsupported: .*macro/);
    expect(refusal('root ::= <think>')).toMatch(/^unsupported: .*token by its text/);
    expect(refusal('root ::= "a" root')).toMatch(/^empty/);
    expect(refusal('root ::= "a"{1000000} "a"')).toMatch(/^too-large/);
    expect(refusal(`root ::= ${'('.repeat(100_000)}`)).toMatch(/^too-large/);
  });
});

describe('grammars of Lark', () => {
  test('rules, terminals, aliases, priorities, repeats and ranges', () => {
    const source = `
      // a calculator
      ?start: sum
      ?sum: product | sum "+" product -> add
          | sum "-" product           -> sub
      ?product: atom | product "*" atom
      !atom.2: NUMBER | "-" atom | "(" sum ")" | CALL
      CALL: ("sin"i | "a".."c") ~ 1..2 "(" ")"
      %import common.NUMBER
      %ignore " "`;
    const texts = ['1+2', ' ( 1.5e3 - -2 ) * aSIN() ', 'c()', 'd()', 'a ()', '1 2', ''];
    expect(admitted(source, texts)).toEqual(texts.slice(0, 3));
  });

  test('optional parts and terminals of its own', () => {
    const source = `start: "SELECT" _LIST ["FROM" NAME]
      _LIST: NAME ("," NAME)*
      %import common (CNAME, WS)
      %import common.CNAME -> NAME
      %ignore WS`;
    const texts = ['SELECT a,b FROM t', 'SELECT\n a', 'SELECTa', 'SELECT FROM', 'select a'];
    expect(admitted(source, texts)).toEqual([
      'SELECT a,b FROM t',
      'SELECT\n a',
      'SELECTa',
      'SELECT FROM',
    ]);
  });

  test('refuses by name what is not supported', () => {
    expect(refusal('start: "a"\n%declare X')).toMatch(/^unsupported: line 2, column 1 .*directive/);
    expect(refusal('start: a{"x"}\n')).toMatch(/^unsupported: .*template/);
    expect(refusal('start: /a/i')).toMatch(/^unsupported: .*flag/);
    expect(refusal('start: /(?=a)b/')).toMatch(/^unsupported: .*lookahead/);
    expect(refusal('%import python.NAME\nstart: NAME')).toMatch(/^unsupported: .*directive/);
    expect(refusal('%import common.C_COMMENT\nstart: "a"')).toMatch(/^unsupported: .*C_COMMENT/);
  });
});
