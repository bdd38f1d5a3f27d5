import { Budget } from './budget.ts';
import { fail } from './errors.ts';
import { FILTERS, type Filter, type Runtime } from './filters.ts';
import { GLOBALS } from './globals.ts';
import { Loop } from './loop.ts';
import { attributeOf, type MethodContext } from './methods.ts';
import type {
  Body,
  CallArguments,
  Expression,
  Filtered,
  ForNode,
  MacroNode,
  SliceNode,
  Statement,
  Target,
} from './nodes.ts';
import {
  arithmetic,
  compares,
  concatenate,
  itemOf,
  negate,
  plus,
  refuseUndefined,
  sliceOf,
} from './operators.ts';
import { TESTS } from './tests.ts';
import {
  type Arguments,
  asText,
  Callable,
  Dict,
  Generator,
  isTruthy,
  iterate,
  Namespace,
  str,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

/** What templates find beside what Jinja2 itself has. */
export interface Environment {
  readonly filters: ReadonlyMap<string, Filter>;
  readonly variables: ReadonlyMap<string, Value>;
}

/** Variables by where they were assigned: a loop, a macro and a block have their own. */
class Scope {
  readonly #outer: Scope | undefined;
  readonly #values = new Map<string, Value>();

  constructor(outer?: Scope) {
    this.#outer = outer;
  }

  get(name: string): Value | undefined {
    const value = this.#values.get(name);
    return value === undefined ? this.#outer?.get(name) : value;
  }

  set(name: string, value: Value): void {
    this.#values.set(name, value);
  }
}

/** How a body ended: by itself, or by what leaves the innermost loop or its turn. */
type End = undefined | 'break' | 'continue';

/** A macro, or what `caller` is in the macro that a call block calls. */
class Macro extends Callable {
  readonly #node: MacroNode;

  constructor(node: MacroNode, call: (args: Arguments) => Value) {
    super('Macro', call);
    this.#node = node;
  }

  override attribute(name: string): Value | undefined {
    const { parameters, uses } = this.#node;
    switch (name) {
      case 'name':
        return this.#node.name;
      case 'arguments':
        return new Tuple(parameters.map((parameter) => parameter.name));
      case 'catch_kwargs':
        return uses.has('kwargs');
      case 'catch_varargs':
        return uses.has('varargs');
      case 'caller':
        return uses.has('caller');
      default:
        return undefined;
    }
  }

  override write(): string {
    return this.#node.name === 'caller' ? '<Macro anonymous>' : `<Macro '${this.#node.name}'>`;
  }
}

/** The text that a template makes. Throws JinjaError, and what the environment's own throw. */
export function interpret(body: Body, environment: Environment): string {
  return new Interpreter(environment).run(body);
}

class Interpreter implements Runtime {
  readonly budget = new Budget();
  readonly #environment: Environment;
  readonly #methods: MethodContext;
  readonly #top = new Scope();
  #text = '';

  constructor(environment: Environment) {
    this.#environment = environment;
    this.#methods = {
      budget: this.budget,
      fields: {
        attribute: (value, name) => this.#attribute(value, name, 'an attribute is not there'),
        item: (value, key) => this.item(value, key),
      },
    };
  }

  run(body: Body): string {
    this.#execute(body, this.#top);
    return this.#text;
  }

  // Statements

  #execute(body: Body, scope: Scope): End {
    this.budget.enter();
    let end: End;
    for (const statement of body) {
      end = this.#statement(statement, scope);
      if (end !== undefined) break;
    }
    this.budget.leave();
    return end;
  }

  #statement(statement: Statement, scope: Scope): End {
    switch (statement.kind) {
      case 'text':
        this.#write(statement.text);
        return undefined;
      case 'print':
        this.#write(str(this.#evaluate(statement.value, scope), this.budget));
        return undefined;
      case 'if': {
        const { branches, otherwise } = statement;
        const holds = branches.find(({ test }) => isTruthy(this.#evaluate(test, scope)));
        return this.#execute(holds?.body ?? otherwise, scope);
      }
      case 'for':
        return this.#for(statement, scope, this.#evaluate(statement.iterable, scope), 0);
      case 'set':
        this.#assign(statement.target, this.#evaluate(statement.value, scope), scope);
        return undefined;
      case 'set-block': {
        const { target, filter, body } = statement;
        return this.#captured(body, new Scope(scope), (text) => {
          this.#assign(target, this.#filtered(filter, text, scope), scope);
        });
      }
      case 'macro':
        scope.set(statement.name, this.#macro(statement, scope));
        return undefined;
      case 'call-block': {
        const caller = this.#macro(statement.caller, scope);
        this.#write(str(this.#call(statement.call, scope, caller), this.budget));
        return undefined;
      }
      case 'filter-block': {
        const inner = new Scope(scope);
        return this.#captured(statement.body, inner, (text) => {
          this.#write(str(this.#filtered(statement.filter, text, inner), this.budget));
        });
      }
      case 'with': {
        const inner = new Scope(scope);
        for (const [target, value] of statement.targets) {
          this.#assign(target, this.#evaluate(value, scope), inner);
        }
        return this.#execute(statement.body, inner);
      }
      case 'block':
        return this.#execute(statement.body, new Scope(statement.isScoped ? scope : this.#top));
      case 'break':
      case 'continue':
        return statement.kind;
      case 'refused':
        return fail(`{% ${statement.tag} %} is not supported`);
    }
  }

  #write(text: string): void {
    this.#text += text;
    this.budget.checkText(this.#text.length);
  }

  /** Gives `use` the text of a body that is not left by a loop's end. */
  #captured(body: Body, scope: Scope, use: (text: string) => void): End {
    const before = this.#text;
    this.#text = '';
    const end = this.#execute(body, scope);
    const text = this.#text;
    this.#text = before;
    if (end === undefined) use(text);
    return end;
  }

  #assign(target: Target, value: Value, scope: Scope): void {
    if (target.kind === 'name') scope.set(target.name, value);
    else if (target.kind === 'tuple') this.#unpack(target.items, value, scope);
    else {
      const space = this.#variable(target.name, scope);
      if (space instanceof Namespace) space.values.set(target.attribute, value);
      else fail(`"${target.name}" is no namespace: its attributes cannot be assigned`);
    }
  }

  #unpack(targets: readonly Target[], value: Value, scope: Scope): void {
    const values: Value[] = [];
    for (const each of iterate(value)) {
      // One more than wanted is enough to know that there are too many.
      if (values.push(each) > targets.length) break;
    }
    if (values.length !== targets.length) {
      fail(`a value cannot be unpacked into ${targets.length}`);
    }
    for (const [at, target] of targets.entries()) this.#assign(target, values[at]!, scope);
  }

  #for(node: ForNode, scope: Scope, iterable: Value, depth: number): End {
    const values = node.test === undefined ? iterable : this.#selected(node, scope, iterable);
    const recurse = (args: Arguments) => this.#recurse(node, scope, args, depth + 1);
    const loop = new Loop(values, depth, recurse, this.budget);
    let isEmpty = true;
    for (let item = loop.advance(); item !== undefined; item = loop.advance()) {
      this.budget.spend();
      const inner = new Scope(scope);
      inner.set('loop', loop);
      this.#assign(node.target, item, inner);
      const end = this.#execute(node.body, inner);
      if (end === 'break') break;
      // As in Jinja2, a turn that was cut short does not count as one.
      if (end === undefined) isEmpty = false;
    }
    if (!isEmpty || node.otherwise.length === 0) return undefined;
    return this.#execute(node.otherwise, new Scope(scope));
  }

  #selected(node: ForNode, scope: Scope, iterable: Value): Generator {
    const holds = (item: Value) => {
      const inner = new Scope(scope);
      this.#assign(node.target, item, inner);
      return isTruthy(this.#evaluate(node.test!, inner));
    };
    function* selected(budget: Budget): Iterable<Value> {
      for (const item of iterate(iterable)) {
        budget.spend();
        if (holds(item)) yield item;
      }
    }
    return new Generator(selected(this.budget));
  }

  #recurse(node: ForNode, scope: Scope, { positional }: Arguments, depth: number): Value {
    if (!node.isRecursive) fail('a loop can only be called that is marked "recursive"');
    if (positional.length !== 1) fail('a recursive loop takes one argument');
    const before = this.#text;
    this.#text = '';
    this.budget.enter();
    this.#for(node, scope, positional[0]!, depth);
    this.budget.leave();
    const text = this.#text;
    this.#text = before;
    return text;
  }

  // Macros

  #macro(node: MacroNode, scope: Scope): Macro {
    return new Macro(node, (args) => {
      const inner = new Scope(scope);
      this.#bindMacro(node, args, inner);
      let result = '';
      this.#captured(node.body, inner, (text) => {
        result = text;
      });
      return result;
    });
  }

  #bindMacro({ name, parameters, uses }: MacroNode, args: Arguments, scope: Scope): void {
    const { positional } = args;
    const named = new Map(args.named);
    const missing: (typeof parameters)[number][] = [];
    parameters.forEach((parameter, at) => {
      const value = at < positional.length ? positional[at] : named.get(parameter.name);
      if (at >= positional.length) named.delete(parameter.name);
      if (value === undefined) missing.push(parameter);
      else scope.set(parameter.name, value);
    });
    if (uses.has('caller')) {
      const caller = named.get('caller');
      named.delete('caller');
      scope.set('caller', caller ?? new Undefined('no caller is defined'));
    }
    if (uses.has('kwargs')) scope.set('kwargs', new Dict(named));
    else if (named.size > 0) fail(`macro "${name}" takes no argument of a name that it is given`);
    const rest = positional.slice(parameters.length);
    if (uses.has('varargs')) scope.set('varargs', new Tuple(rest));
    else if (rest.length > 0) fail(`macro "${name}" takes at most ${parameters.length} arguments`);
    for (const parameter of missing) {
      const { otherwise } = parameter;
      const value =
        otherwise === undefined
          ? new Undefined(`parameter '${parameter.name}' was not provided`)
          : this.#evaluate(otherwise, scope);
      scope.set(parameter.name, value);
    }
  }

  // Expressions

  #evaluate(node: Expression, scope: Scope): Value {
    this.budget.enter();
    const value = this.#value(node, scope);
    this.budget.leave();
    return value;
  }

  #value(node: Expression, scope: Scope): Value {
    switch (node.kind) {
      case 'constant':
        return node.value;
      case 'name':
        return this.#variable(node.name, scope);
      case 'attribute':
        return this.#attribute(this.#evaluate(node.value, scope), node.name);
      case 'item':
        return this.#subscript(node.value, node.key, scope);
      case 'call':
        return this.#call(node, scope);
      case 'filter':
        return this.#filtered(node, undefined, scope);
      case 'test': {
        if (!TESTS.has(node.name)) fail(`there is no test "${node.name}"`);
        const value = this.#evaluate(node.value, scope);
        return this.test(node.name, value, this.#arguments(node.args, scope));
      }
      case 'not':
        return !isTruthy(this.#evaluate(node.value, scope));
      case 'and': {
        const left = this.#evaluate(node.left, scope);
        return isTruthy(left) ? this.#evaluate(node.right, scope) : left;
      }
      case 'or': {
        const left = this.#evaluate(node.left, scope);
        return isTruthy(left) ? left : this.#evaluate(node.right, scope);
      }
      case 'compare':
        return this.#compare(node, scope);
      case 'arithmetic': {
        const left = this.#evaluate(node.left, scope);
        return arithmetic(node.operator, left, this.#evaluate(node.right, scope), this.budget);
      }
      case 'concatenate':
        return concatenate(this.#all(node.items, scope), this.budget);
      case 'conditional':
        if (isTruthy(this.#evaluate(node.test, scope))) return this.#evaluate(node.then, scope);
        if (node.otherwise !== undefined) return this.#evaluate(node.otherwise, scope);
        return new Undefined('an inline if is false and has no else');
      case 'list':
        return this.#all(node.items, scope);
      case 'tuple':
        return new Tuple(this.#all(node.items, scope));
      case 'dict': {
        const dict = new Dict();
        for (const [key, value] of node.entries) {
          dict.set(this.#evaluate(key, scope), this.#evaluate(value, scope));
        }
        return dict;
      }
      case 'negative':
        return negate(this.#evaluate(node.value, scope));
      case 'positive':
        return plus(this.#evaluate(node.value, scope));
    }
  }

  #all(nodes: readonly Expression[], scope: Scope): Value[] {
    return nodes.map((node) => this.#evaluate(node, scope));
  }

  #variable(name: string, scope: Scope): Value {
    for (const variables of [scope, this.#environment.variables, GLOBALS]) {
      const value = variables.get(name);
      if (value !== undefined) return value;
    }
    return new Undefined(`'${name}' is undefined`);
  }

  /** `value.name`: an attribute, or else an item. */
  #attribute(value: Value, name: string, reason?: string): Value {
    refuseUndefined(value);
    const own = this.attribute(value, name);
    const found = own === undefined ? itemOf(value, name, this.budget) : own;
    if (found !== undefined) return found;
    return new Undefined(reason ?? `'${typeName(value)} object' has no attribute '${name}'`);
  }

  attribute(value: Value, name: string): Value | undefined {
    return attributeOf(value, name, this.#methods);
  }

  /** `value[key]`: an item, or else an attribute. */
  item(value: Value, key: Value): Value {
    refuseUndefined(value);
    const name = asText(key);
    const item = itemOf(value, key, this.budget);
    if (item !== undefined) return item;
    const found = name === undefined ? undefined : this.attribute(value, name);
    return found === undefined ? new Undefined(`'${typeName(value)} object' lacks an item`) : found;
  }

  #subscript(of: Expression, key: Expression | SliceNode, scope: Scope): Value {
    const value = this.#evaluate(of, scope);
    if (key.kind !== 'slice') return this.item(value, this.#evaluate(key, scope));
    const bound = (node: Expression | undefined) =>
      node === undefined ? null : this.#evaluate(node, scope);
    const slice = { start: bound(key.start), stop: bound(key.stop), step: bound(key.step) };
    refuseUndefined(value);
    const part = sliceOf(value, slice, this.budget);
    return part ?? fail(`'${typeName(value)}' object cannot be sliced`);
  }

  #compare(node: Extract<Expression, { kind: 'compare' }>, scope: Scope): boolean {
    let left = this.#evaluate(node.left, scope);
    return node.rest.every(([operator, operand]) => {
      const right = this.#evaluate(operand, scope);
      const holds = compares(operator, left, right, this.budget);
      left = right;
      return holds;
    });
  }

  #call(node: Expression, scope: Scope, caller?: Macro): Value {
    if (node.kind !== 'call') return fail('only a call can be called');
    const callee = this.#evaluate(node.callee, scope);
    const args = this.#arguments(node.args, scope, caller);
    if (callee instanceof Callable) return callee.call(args);
    refuseUndefined(callee);
    return fail(`'${typeName(callee)}' object is not callable`);
  }

  #arguments(nodes: CallArguments, scope: Scope, caller?: Macro): Arguments {
    const positional = this.#all(nodes.positional, scope);
    const named = new Map<string, Value>();
    for (const [name, value] of nodes.named) {
      if (named.has(name)) fail(`argument "${name}" is given twice`);
      named.set(name, this.#evaluate(value, scope));
    }
    if (caller !== undefined) named.set('caller', caller);
    if (nodes.spread !== undefined) {
      for (const value of iterate(this.#evaluate(nodes.spread, scope))) {
        this.budget.spend();
        positional.push(value);
      }
    }
    if (nodes.namedSpread !== undefined) this.#spread(nodes.namedSpread, named, scope);
    return { positional, named };
  }

  #spread(node: Expression, named: Map<string, Value>, scope: Scope): void {
    const values = this.#evaluate(node, scope);
    refuseUndefined(values);
    const entries = values instanceof Dict ? values.entries() : fail('** wants a mapping');
    for (const [key, value] of entries) {
      const name = asText(key) ?? fail('** gives what is no name');
      if (named.has(name)) fail('** gives a name that is given already');
      named.set(name, value);
    }
  }

  #filtered(node: Filtered | undefined, text: string | undefined, scope: Scope): Value {
    if (node === undefined) return text!;
    if (!this.hasFilter(node.name)) fail(`there is no filter "${node.name}"`);
    const inner = node.value as Filtered | undefined;
    const value =
      text !== undefined ? this.#filtered(inner, text, scope) : this.#evaluate(node.value!, scope);
    return this.filter(node.name, value, this.#arguments(node.args, scope));
  }

  hasFilter(name: string): boolean {
    return this.#environment.filters.has(name) || FILTERS.has(name);
  }

  filter(name: string, value: Value, args: Arguments): Value {
    this.budget.spend();
    const apply = this.#environment.filters.get(name) ?? FILTERS.get(name);
    return apply === undefined ? fail('there is no filter of a name') : apply(this, value, args);
  }

  test(name: string, value: Value, args: Arguments): boolean {
    this.budget.spend();
    const holds = TESTS.get(name);
    return holds === undefined ? fail('there is no test of a name') : holds(this, value, args);
  }
}
