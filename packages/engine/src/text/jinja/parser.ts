import { checkDepth } from './budget.ts';
import { JinjaError } from './errors.ts';
import { type Token, tokenize } from './lexer.ts';
import type {
  Body,
  CallArguments,
  Expression,
  Filtered,
  MacroNode,
  Parameter,
  SliceNode,
  Statement,
  Target,
} from './nodes.ts';
import type { ArithmeticOperator, ComparisonOperator } from './operators.ts';

const NO_ARGUMENTS: CallArguments = {
  positional: [],
  named: [],
  spread: undefined,
  namedSpread: undefined,
};

const CONSTANTS: ReadonlyMap<string, null | boolean> = new Map([
  ['true', true],
  ['True', true],
  ['false', false],
  ['False', false],
  ['none', null],
  ['None', null],
]);

const COMPARISONS: ReadonlySet<string> = new Set(['==', '!=', '<', '<=', '>', '>=']);

/** Parses a template. Throws JinjaError `syntax`, and `limit` for absurd nesting. */
export function parse(template: string): Body {
  return new Parser(tokenize(template)).run();
}

/**
 * Jinja2's grammar, by recursive descent. Every method reads what its name says from the current
 * token on and leaves the token after it current.
 */
class Parser {
  readonly #tokens: readonly Token[];
  #at = 0;
  #depth = 0;
  /** Loops around the current statement within the same macro or block. */
  #loops = 0;
  /** What the macro that is being read uses; undefined outside of macros. */
  #uses = new Set<string>();

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  run(): Body {
    const body = this.#body([]);
    if (this.#current.type !== 'end') this.#fail();
    return body;
  }

  // Tokens

  get #current(): Token {
    return this.#tokens[this.#at]!;
  }

  #is(text: string, type: Token['type'] = 'operator', ahead = 0): boolean {
    const token = this.#tokens[Math.min(this.#at + ahead, this.#tokens.length - 1)]!;
    return token.type === type && token.text === text;
  }

  #isName(...names: readonly string[]): boolean {
    return this.#current.type === 'name' && names.includes(this.#current.text);
  }

  #skip(text: string, type: Token['type'] = 'operator'): boolean {
    if (!this.#is(text, type)) return false;
    this.#at += 1;
    return true;
  }

  #expect(text: string, type: Token['type'] = 'operator'): void {
    if (!this.#skip(text, type)) this.#fail(text);
  }

  #name(): string {
    const { type, text } = this.#current;
    if (type !== 'name') this.#fail('a name');
    this.#at += 1;
    return text;
  }

  #fail(expected?: string): never {
    const { type, text } = this.#current;
    const found = type === 'end' ? 'the end of the template' : `"${text}"`;
    const wanted = expected === undefined ? '' : `, where ${expected} must be`;
    throw new JinjaError('syntax', `${found} is not expected${wanted}`);
  }

  #nested<T>(read: () => T): T {
    this.#depth += 1;
    checkDepth(this.#depth);
    const result = read();
    this.#depth -= 1;
    return result;
  }

  // Statements

  /** Statements up to a block with one of the names `until`, which is left current. */
  #body(until: readonly string[]): Statement[] {
    return this.#nested(() => {
      const body: Statement[] = [];
      for (;;) {
        const token = this.#current;
        if (token.type === 'end') {
          if (until.length > 0) this.#fail(`{% ${until.join(' %} or {% ')} %}`);
          return body;
        }
        this.#at += 1;
        if (token.type === 'data') body.push({ kind: 'text', text: token.text });
        else if (token.text === '{{') {
          body.push({ kind: 'print', value: this.#tuple() });
          this.#expect('}}', 'mark');
        } else {
          if (this.#isName(...until)) return body;
          body.push(...this.#statement());
          this.#expect('%}', 'mark');
        }
      }
    });
  }

  /** The rest of a block's opening, its body, and the name of what closes it. */
  #blockBody(...until: readonly string[]): Statement[] {
    this.#skip(':');
    this.#expect('%}', 'mark');
    return this.#body(until);
  }

  #closedBody(end: string): Statement[] {
    const body = this.#blockBody(end);
    this.#expect(end, 'name');
    return body;
  }

  #statement(): readonly Statement[] {
    const tag = this.#name();
    switch (tag) {
      case 'print':
        return this.#print();
      case 'if':
        return [this.#if()];
      case 'for':
        return [this.#for()];
      case 'set':
        return [this.#set()];
      case 'macro':
        return [this.#macro()];
      case 'call':
        return [this.#callBlock()];
      case 'filter':
        return [this.#filterBlock()];
      case 'with':
        return [this.#with()];
      case 'block':
        return [this.#namedBlock()];
      case 'generation':
        return [
          {
            kind: 'block',
            isScoped: true,
            body: this.#apart(() => this.#closedBody('endgeneration')),
          },
        ];
      case 'break':
      case 'continue':
        if (this.#loops === 0) throw new JinjaError('syntax', `{% ${tag} %} is in no loop`);
        return [{ kind: tag }];
      case 'autoescape':
        this.#expression();
        this.#closedBody('endautoescape');
        return [{ kind: 'refused', tag }];
      case 'include':
      case 'import':
      case 'from':
      case 'extends':
        while (!this.#is('%}', 'mark')) this.#at += 1;
        return [{ kind: 'refused', tag }];
      default:
        throw new JinjaError('syntax', `there is no tag {% ${tag} %} here`);
    }
  }

  #print(): Statement[] {
    const values: Statement[] = [];
    while (!this.#is('%}', 'mark')) {
      if (values.length > 0) this.#expect(',');
      values.push({ kind: 'print', value: this.#expression() });
    }
    return values;
  }

  #if(): Statement {
    const branches = [];
    let otherwise: Body = [];
    let next = 'elif';
    while (next === 'elif') {
      const test = this.#tuple({ withCondition: false });
      branches.push({ test, body: this.#blockBody('elif', 'else', 'endif') });
      next = this.#name();
    }
    if (next === 'else') otherwise = this.#closedBody('endif');
    return { kind: 'if', branches, otherwise };
  }

  #for(): Statement {
    const target = this.#target(['in']);
    this.#expect('in', 'name');
    const iterable = this.#tuple({ withCondition: false, until: ['recursive'] });
    const test = this.#skip('if', 'name') ? this.#expression() : undefined;
    const isRecursive = this.#skip('recursive', 'name');
    this.#loops += 1;
    const body = this.#blockBody('endfor', 'else');
    this.#loops -= 1;
    const otherwise = this.#name() === 'else' ? this.#closedBody('endfor') : [];
    return { kind: 'for', target, iterable, test, isRecursive, body, otherwise };
  }

  #set(): Statement {
    const target = this.#target([], true);
    if (this.#skip('=')) return { kind: 'set', target, value: this.#tuple() };
    const filter = this.#filters(undefined) as Filtered | undefined;
    return { kind: 'set-block', target, filter, body: this.#closedBody('endset') };
  }

  #macro(): Statement {
    const name = this.#name();
    return this.#macroRest(name, this.#parameters(), 'endmacro');
  }

  #macroRest(name: string, parameters: readonly Parameter[], end: string): MacroNode {
    const outer = this.#uses;
    this.#uses = new Set();
    const body = this.#apart(() => this.#closedBody(end));
    const uses = this.#uses as MacroNode['uses'];
    // What a macro within it uses is its own, but an outer one must have it to give.
    this.#uses = new Set([...outer, ...uses]);
    const named = new Set(parameters.map((parameter) => parameter.name));
    const free = new Set([...uses].filter((each) => !named.has(each)));
    return { kind: 'macro', name, parameters, body, uses: free };
  }

  #callBlock(): Statement {
    const parameters = this.#is('(') ? this.#parameters() : [];
    const call = this.#expression();
    if (call.kind !== 'call') throw new JinjaError('syntax', '{% call %} must call something');
    return { kind: 'call-block', call, caller: this.#macroRest('caller', parameters, 'endcall') };
  }

  #parameters(): Parameter[] {
    const parameters: Parameter[] = [];
    this.#expect('(');
    while (!this.#is(')')) {
      if (parameters.length > 0) this.#expect(',');
      const name = this.#assignable(this.#name());
      const otherwise = this.#skip('=') ? this.#expression() : undefined;
      if (otherwise === undefined && parameters.at(-1)?.otherwise !== undefined) {
        throw new JinjaError('syntax', `parameter "${name}" must have a default too`);
      }
      parameters.push({ name, otherwise });
    }
    this.#expect(')');
    return parameters;
  }

  #filterBlock(): Statement {
    const filter = this.#filters(undefined, true) as Filtered;
    return { kind: 'filter-block', filter, body: this.#closedBody('endfilter') };
  }

  #with(): Statement {
    const targets: (readonly [Target, Expression])[] = [];
    while (!this.#is('%}', 'mark')) {
      if (targets.length > 0) this.#expect(',');
      const target = this.#target();
      this.#expect('=');
      targets.push([target, this.#expression()]);
    }
    return { kind: 'with', targets, body: this.#closedBody('endwith') };
  }

  #namedBlock(): Statement {
    const name = this.#name();
    const isScoped = this.#skip('scoped', 'name');
    this.#skip('required', 'name');
    const body = this.#apart(() => this.#closedBody('endblock'));
    this.#skip(name, 'name');
    return { kind: 'block', isScoped, body };
  }

  /** Reads what is a function of its own in Jinja2: a loop outside cannot be left from within. */
  #apart<T>(read: () => T): T {
    const loops = this.#loops;
    this.#loops = 0;
    const result = read();
    this.#loops = loops;
    return result;
  }

  // Targets

  #target(until: readonly string[] = [], withNamespace = false): Target {
    if (withNamespace && this.#is('.', 'operator', 1)) {
      const name = this.#name();
      this.#expect('.');
      return { kind: 'namespace', name, attribute: this.#name() };
    }
    return this.#toTarget(this.#tuple({ isTarget: true, until }));
  }

  #toTarget(expression: Expression): Target {
    if (expression.kind === 'name') return { kind: 'name', name: expression.name };
    if (expression.kind !== 'tuple') {
      throw new JinjaError('syntax', 'this cannot be assigned to');
    }
    return { kind: 'tuple', items: expression.items.map((item) => this.#toTarget(item)) };
  }

  #assignable(name: string): string {
    if (CONSTANTS.has(name)) throw new JinjaError('syntax', `"${name}" cannot be assigned to`);
    return name;
  }

  // Expressions

  /** One expression, or several with commas between them: a tuple. */
  #tuple(
    options: {
      readonly isTarget?: boolean;
      readonly withCondition?: boolean;
      readonly until?: readonly string[];
      readonly isInParentheses?: boolean;
    } = {},
  ): Expression {
    const { isTarget = false, withCondition = true, until = [], isInParentheses = false } = options;
    const items: Expression[] = [];
    let isTuple = false;
    while (!this.#endsTuple(until)) {
      if (isTarget) items.push(this.#nested(() => this.#primary()));
      else items.push(withCondition ? this.#expression() : this.#nested(() => this.#or()));
      if (!this.#skip(',')) break;
      isTuple = true;
    }
    if (isTuple) return { kind: 'tuple', items };
    if (items.length > 0) return items[0]!;
    return isInParentheses ? { kind: 'tuple', items } : this.#fail('an expression');
  }

  #endsTuple(until: readonly string[]): boolean {
    return (
      this.#is('}}', 'mark') || this.#is('%}', 'mark') || this.#is(')') || this.#isName(...until)
    );
  }

  #expression(): Expression {
    return this.#nested(() => {
      let then = this.#or();
      while (this.#skip('if', 'name')) {
        const test = this.#or();
        const otherwise = this.#skip('else', 'name') ? this.#expression() : undefined;
        then = { kind: 'conditional', test, then, otherwise };
      }
      return then;
    });
  }

  #or(): Expression {
    let left = this.#and();
    while (this.#skip('or', 'name')) left = { kind: 'or', left, right: this.#and() };
    return left;
  }

  #and(): Expression {
    let left = this.#not();
    while (this.#skip('and', 'name')) left = { kind: 'and', left, right: this.#not() };
    return left;
  }

  #not(): Expression {
    if (!this.#skip('not', 'name')) return this.#compare();
    return { kind: 'not', value: this.#nested(() => this.#not()) };
  }

  #compare(): Expression {
    const left = this.#sum();
    const rest: (readonly [ComparisonOperator, Expression])[] = [];
    for (;;) {
      const { type, text } = this.#current;
      if (type === 'operator' && COMPARISONS.has(text)) {
        this.#at += 1;
        rest.push([text as ComparisonOperator, this.#sum()]);
      } else if (this.#skip('in', 'name')) {
        rest.push(['in', this.#sum()]);
      } else if (this.#isName('not') && this.#is('in', 'name', 1)) {
        this.#at += 2;
        rest.push(['not in', this.#sum()]);
      } else {
        return rest.length === 0 ? left : { kind: 'compare', left, rest };
      }
    }
  }

  #sum(): Expression {
    return this.#leftToRight(['+', '-'], () => this.#concatenation());
  }

  #concatenation(): Expression {
    const items = [this.#product()];
    while (this.#skip('~')) items.push(this.#product());
    return items.length === 1 ? items[0]! : { kind: 'concatenate', items };
  }

  #product(): Expression {
    return this.#leftToRight(['*', '/', '//', '%'], () => this.#power());
  }

  /** Unlike in Python, powers are taken from left to right, and after signs. */
  #power(): Expression {
    return this.#leftToRight(['**'], () => this.#unary());
  }

  #leftToRight(operators: readonly ArithmeticOperator[], operand: () => Expression): Expression {
    let left = operand();
    for (;;) {
      const operator = operators.find((each) => this.#skip(each));
      if (operator === undefined) return left;
      left = { kind: 'arithmetic', operator, left, right: operand() };
    }
  }

  #unary(withFilters = true): Expression {
    return this.#nested(() => {
      let value: Expression;
      if (this.#skip('-')) value = { kind: 'negative', value: this.#unary(false) };
      else if (this.#skip('+')) value = { kind: 'positive', value: this.#unary(false) };
      else value = this.#primary();
      value = this.#postfix(value);
      return withFilters ? this.#filtersAndTests(value) : value;
    });
  }

  #primary(): Expression {
    const token = this.#current;
    this.#at += 1;
    switch (token.type) {
      case 'name': {
        const constant = CONSTANTS.get(token.text);
        if (constant !== undefined) return { kind: 'constant', value: constant };
        this.#uses.add(token.text);
        return { kind: 'name', name: token.text };
      }
      case 'string': {
        let value = token.text;
        while (this.#current.type === 'string') {
          value += this.#current.text;
          this.#at += 1;
        }
        return { kind: 'constant', value };
      }
      case 'integer':
      case 'float':
        return { kind: 'constant', value: token.value };
      case 'operator':
        if (token.text === '(') return this.#parentheses();
        if (token.text === '[') return this.#list();
        if (token.text === '{') return this.#dict();
    }
    this.#at -= 1;
    return this.#fail('an expression');
  }

  #parentheses(): Expression {
    const value = this.#tuple({ isInParentheses: true });
    this.#expect(')');
    return value;
  }

  #list(): Expression {
    const items: Expression[] = [];
    while (!this.#is(']')) {
      if (items.length > 0) this.#expect(',');
      if (this.#is(']')) break;
      items.push(this.#expression());
    }
    this.#expect(']');
    return { kind: 'list', items };
  }

  #dict(): Expression {
    const entries: (readonly [Expression, Expression])[] = [];
    while (!this.#is('}')) {
      if (entries.length > 0) this.#expect(',');
      if (this.#is('}')) break;
      const key = this.#expression();
      this.#expect(':');
      entries.push([key, this.#expression()]);
    }
    this.#expect('}');
    return { kind: 'dict', entries };
  }

  #postfix(start: Expression): Expression {
    let value = start;
    for (;;) {
      if (this.#skip('.')) value = this.#afterPoint(value);
      else if (this.#skip('[')) value = this.#subscript(value);
      else if (this.#is('(')) value = { kind: 'call', callee: value, args: this.#arguments() };
      else return value;
    }
  }

  #afterPoint(value: Expression): Expression {
    const token = this.#current;
    if (token.type !== 'integer') return { kind: 'attribute', value, name: this.#name() };
    this.#at += 1;
    return { kind: 'item', value, key: { kind: 'constant', value: token.value } };
  }

  #subscript(value: Expression): Expression {
    const keys: (Expression | SliceNode)[] = [];
    while (!this.#is(']')) {
      if (keys.length > 0) this.#expect(',');
      keys.push(this.#sliceOrKey());
    }
    this.#expect(']');
    if (keys.length === 1) return { kind: 'item', value, key: keys[0]! };
    if (keys.some((key) => key.kind === 'slice')) this.#fail();
    return { kind: 'item', value, key: { kind: 'tuple', items: keys as Expression[] } };
  }

  #sliceOrKey(): Expression | SliceNode {
    const ends = () => this.#is(':') || this.#is(']') || this.#is(',');
    const start = this.#is(':') ? undefined : this.#expression();
    if (!this.#skip(':')) return start!;
    const stop = ends() ? undefined : this.#expression();
    const step = this.#skip(':') && !ends() ? this.#expression() : undefined;
    return { kind: 'slice', start, stop, step };
  }

  #arguments(): CallArguments {
    const positional: Expression[] = [];
    const named: (readonly [string, Expression])[] = [];
    let spread: Expression | undefined;
    let namedSpread: Expression | undefined;
    this.#expect('(');
    for (let isFirst = true; !this.#is(')'); isFirst = false) {
      if (!isFirst) this.#expect(',');
      if (!isFirst && this.#is(')')) break;
      if (namedSpread !== undefined) this.#fail(')');
      if (this.#skip('*')) {
        if (spread !== undefined) this.#fail();
        spread = this.#expression();
      } else if (this.#skip('**')) {
        namedSpread = this.#expression();
      } else if (this.#current.type === 'name' && this.#is('=', 'operator', 1)) {
        const name = this.#name();
        this.#at += 1;
        named.push([name, this.#expression()]);
      } else {
        if (spread !== undefined || named.length > 0) this.#fail('a named argument');
        positional.push(this.#expression());
      }
    }
    this.#expect(')');
    return { positional, named, spread, namedSpread };
  }

  #filtersAndTests(start: Expression): Expression {
    let value = start;
    for (;;) {
      if (this.#is('|')) value = this.#filters(value)!;
      else if (this.#skip('is', 'name')) value = this.#test(value);
      else if (this.#is('(')) value = { kind: 'call', callee: value, args: this.#arguments() };
      else return value;
    }
  }

  /** `|a|b(1)`; of a block, `isInline`, the first without its bar. */
  #filters(start: Expression | undefined, isInline = false): Expression | undefined {
    let value = start;
    for (let isNext = isInline; isNext || this.#skip('|'); isNext = false) {
      const name = this.#dottedName();
      const args = this.#is('(') ? this.#arguments() : NO_ARGUMENTS;
      value = { kind: 'filter', value, name, args };
    }
    return value;
  }

  #dottedName(): string {
    let name = this.#name();
    while (this.#skip('.')) name += `.${this.#name()}`;
    return name;
  }

  #test(value: Expression): Expression {
    const isNegated = this.#skip('not', 'name');
    const name = this.#dottedName();
    let args = NO_ARGUMENTS;
    if (this.#is('(')) args = this.#arguments();
    else if (this.#startsTestArgument()) {
      if (this.#isName('is')) this.#fail('and');
      const positional = [this.#nested(() => this.#postfix(this.#primary()))];
      args = { positional, named: [], spread: undefined, namedSpread: undefined };
    }
    const test: Expression = { kind: 'test', value, name, args };
    return isNegated ? { kind: 'not', value: test } : test;
  }

  #startsTestArgument(): boolean {
    const { type } = this.#current;
    if (type === 'name') return !this.#isName('else', 'or', 'and');
    const isLiteral = type === 'string' || type === 'integer' || type === 'float';
    return isLiteral || this.#is('[') || this.#is('{');
  }
}
