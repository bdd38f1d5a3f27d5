import {
  type Expression,
  formatPattern,
  type Grammar,
  GrammarError,
  regularExpression,
  schemaGrammar,
  type Tag,
} from '@bridgekeeper/engine/grammar';
import { readJsonValue } from '@bridgekeeper/engine/text';
import { type JsonType, schemaAt, typesOf } from './schema-types.ts';

/** A tool as grammars of its calls see it. */
export interface GrammarTool {
  readonly name: string;
  /** A JSON schema; undefined: it takes whatever comes. */
  readonly parameters: unknown;
  /** Arguments must be held to the schema; otherwise they are where that can be done. */
  readonly isStrict: boolean;
}

/** What grammars of calls are made of. Plain data: it may cross threads. */
export interface CallRules {
  readonly tools: readonly GrammarTool[];
  /** More than one call may come. */
  readonly isParallel: boolean;
  /** Ids of the tags that are tokens. */
  readonly tokens: ReadonlyMap<string, number>;
}

const ANY_OBJECT = { type: 'object' };

/** Writes the expressions of calls, in the terms of formats. */
export class CallWriter {
  readonly rules = new Map<string, Expression>();
  readonly #tools: CallRules['tools'];
  readonly #isParallel: boolean;
  readonly #tokens: CallRules['tokens'];

  constructor({ tools, isParallel, tokens }: CallRules) {
    this.#tools = tools;
    this.#isParallel = isParallel;
    this.#tokens = tokens;
  }

  /** A tag as the model writes it: a token, or text. */
  tag(text: string): Tag {
    const id = this.#tokens.get(text);
    return id === undefined ? { kind: 'text', text } : { kind: 'token', id };
  }

  isToken(tag: string): boolean {
    return this.#tokens.has(tag);
  }

  /** One call of any of the tools. */
  oneCall(callOf: (tool: GrammarTool) => Expression): Expression {
    this.rules.set('call', { kind: 'choice', options: this.#tools.map(callOf) });
    return { kind: 'rule', name: 'call' };
  }

  /** One call of any of the tools, or several where they may be. */
  calls(callOf: (tool: GrammarTool) => Expression, between: string): Expression {
    const call = this.oneCall(callOf);
    if (!this.#isParallel) return call;
    return sequence(call, repeat(sequence(between, call), 0));
  }

  /** A tool's arguments as an object of JSON. */
  arguments(tool: GrammarTool): Expression {
    return this.#schema(tool, tool.parameters ?? ANY_OBJECT, tool.name) ?? this.#anyObject();
  }

  /**
   * A tool's arguments one by one, as the schema declares them, of values that have no quotes and
   * end before `end`. `field` writes one. Throws GrammarError for a strict schema to which that
   * cannot be held.
   */
  fields(
    tool: GrammarTool,
    end: string,
    field: (name: Expression, value: Expression) => Expression,
  ): Expression {
    const stop = this.tag(end);
    const declared = Object.entries(propertiesOf(tool));
    if (declared.length === 0) {
      const free: Expression = { kind: 'free', tags: [stop] };
      return tool.isStrict ? NOTHING : repeat(field(ANY_KEY, free), 0);
    }
    return sequence(
      ...declared.map(([name, schema]) => {
        const written = field(text(name), this.#bareValue(tool, name, schema, stop));
        return isRequired(tool, name) ? written : repeat(written, 0, 1);
      }),
    );
  }

  /** A tool's arguments as Python's keywords, their values as JSON writes them. */
  keywords(tool: GrammarTool): Expression {
    const fields = Object.entries(propertiesOf(tool)).map(([name, schema]) => ({
      isRequired: isRequired(tool, name),
      written: sequence(`${name}=`, this.#property(tool, name, schema)),
    }));
    return sequence(`${tool.name}(`, this.#listed(tool.name, fields, ', '), ')');
  }

  /** A tool's arguments in braces, text between `quote`. Throws GrammarError. */
  braced(tool: GrammarTool, quote: string): Expression {
    return this.#bracedObject(tool, tool.parameters ?? ANY_OBJECT, '', quote);
  }

  #bracedObject(tool: GrammarTool, schema: unknown, path: string, quote: string): Expression {
    const { properties, required = [] } = schema as ObjectSchema;
    if (properties === undefined) return this.#anyBraced(quote, 'any braces');
    const fields = Object.entries(properties).map(([name, each]) => ({
      isRequired: required.includes(name),
      written: sequence(`${name}:`, this.#bracedValue(tool, each, `${path}/${name}`, quote)),
    }));
    return sequence('{', this.#listed(`${tool.name}${path}`, fields, ','), '}');
  }

  #bracedValue(tool: GrammarTool, schema: unknown, path: string, quote: string): Expression {
    const known = (schema ?? {}) as BracedSchema;
    const mark = this.tag(quote);
    const quoted = (value: Expression) => sequence(mark, value, mark);
    const literals = literalsOf(known);
    if (literals !== undefined) {
      return choice(
        ...literals.map((each) =>
          typeof each === 'string' ? quoted(text(each)) : text(JSON.stringify(each)),
        ),
      );
    }
    this.#refuse(tool, path, known, BRACED_BOUNDS);
    if (known.$ref !== undefined) return this.#bracedReference(tool, known.$ref, quote);
    if (known.anyOf !== undefined) {
      const options = known.anyOf.map((each, at) => [each, `${path}/anyOf/${at}`] as const);
      return choice(...options.map(([each, at]) => this.#bracedValue(tool, each, at, quote)));
    }
    return choice(
      ...[...typesOf(schema, tool.parameters)].map((type) => {
        if (type === 'string') return quoted(this.#text(tool, path, known, mark));
        if (type === 'object') return this.#bracedObject(tool, known, path, quote);
        if (type !== 'array') return this.#property(tool, `${path} ${type}`, { ...known, type });
        const { items, minItems, maxItems } = known;
        const item =
          items === undefined
            ? this.#anyBraced(quote, 'any value')
            : this.#bracedValue(tool, items, `${path}/items`, quote);
        return sequence('[', listOf(item, minItems, maxItems), ']');
      }),
    );
  }

  /** What a reference points to, as a rule: it may refer to itself. */
  #bracedReference(tool: GrammarTool, reference: string, quote: string): Expression {
    const name = `${tool.name} ${reference}`;
    if (!this.rules.has(name)) {
      this.rules.set(name, NOTHING);
      const target = schemaAt(tool.parameters, reference);
      this.rules.set(name, this.#bracedValue(tool, target, reference, quote));
    }
    return { kind: 'rule', name };
  }

  #anyBraced(quote: string, name: 'any braces' | 'any value'): Expression {
    if (!this.rules.has(name)) {
      const mark = this.tag(quote);
      const any: Expression = { kind: 'rule', name: 'any value' };
      const braces: Expression = { kind: 'rule', name: 'any braces' };
      this.rules.set('any braces', sequence('{', listOf(sequence(ANY_KEY, ':', any)), '}'));
      const quoted = sequence(mark, { kind: 'free', tags: [mark] }, mark);
      const plain = (['number', 'boolean', 'null'] as const).map((type) => this.#anyOf(type));
      const list = sequence('[', listOf(any), ']');
      this.rules.set('any value', choice(quoted, ...plain, braces, list));
    }
    return { kind: 'rule', name };
  }

  #anyOf(type: JsonType): Expression {
    const name = `any ${type}`;
    if (!this.rules.has(name)) {
      this.rules.set(name, this.adopt(grammarOfSchema({ type }), name));
    }
    return { kind: 'rule', name };
  }

  /** Fields in their order, those that are not required left out or not. */
  #listed(
    owner: string,
    fields: readonly { readonly isRequired: boolean; readonly written: Expression }[],
    comma: string,
  ): Expression {
    let [first, more]: readonly [Expression, Expression] = [NOTHING, NOTHING];
    for (let at = fields.length - 1; at >= 0; at--) {
      const { isRequired: isNeeded, written } = fields[at]!;
      // Each tail is a rule: it is used twice, and its own tails are.
      const rest: Expression = { kind: 'rule', name: `${owner} after ${at}` };
      this.rules.set(rest.name, more);
      const here = sequence(written, rest);
      const [before, after] = [first, more];
      first = isNeeded ? here : choice(here, before);
      more = isNeeded ? sequence(comma, here) : choice(sequence(comma, here), after);
    }
    return first;
  }

  /** A value without quotes. */
  #bareValue(tool: GrammarTool, name: string, schema: unknown, end: Tag): Expression {
    const literals = literalsOf(schema);
    if (literals !== undefined) {
      const bare = (each: unknown) => text(typeof each === 'string' ? each : JSON.stringify(each));
      return choice(...literals.map(bare));
    }
    const types = typesOf(schema, tool.parameters);
    if (!types.has('string')) return this.#property(tool, name, schema);
    // Whatever else the value may be, any text is a string.
    return this.#text(tool, `/${name}`, types.size === 1 ? schema : {}, end);
  }

  /** Text without quotes before `end`: any, or what the schema of a string lets through. */
  #text(tool: GrammarTool, path: string, schema: unknown, end: Tag): Expression {
    const { pattern, format, minLength = 0, maxLength, ...others } = (schema ?? {}) as StringSchema;
    this.#refuse(tool, path, others, COMBINATIONS);
    const bounds: Expression[] = [];
    try {
      if (pattern !== undefined) bounds.push(regularExpression(pattern, 'search'));
      const formatted = format === undefined ? undefined : formatPattern(format);
      if (formatted === 'unsupported') this.#refuse(tool, path, { format }, ['format']);
      else if (formatted !== undefined) bounds.push(regularExpression(formatted, 'search'));
    } catch (error) {
      if (tool.isStrict || !(error instanceof GrammarError)) throw error;
    }
    if (minLength > 0 || maxLength !== undefined) {
      bounds.push(repeat(ANY_CHARACTER, minLength, maxLength));
    }
    const free: Expression = { kind: 'free', tags: [end] };
    return bounds.length === 0 ? free : { kind: 'intersection', parts: [free, ...bounds] };
  }

  /** A property's value as JSON. */
  #property(tool: GrammarTool, name: string, schema: unknown): Expression {
    const { $defs, definitions } = (tool.parameters ?? {}) as ObjectSchema;
    const own = {
      ...($defs === undefined ? {} : { $defs }),
      ...(definitions === undefined ? {} : { definitions }),
      ...(schema as object),
    };
    const held = this.#schema(tool, own, `${tool.name}.${name}`);
    return held ?? this.adopt(grammarOfSchema({}), `${tool.name}.${name}`);
  }

  #refuse(tool: GrammarTool, path: string, schema: unknown, keywords: readonly string[]): void {
    const has = (keyword: string) => Object.hasOwn((schema ?? {}) as object, keyword);
    const keyword = tool.isStrict ? keywords.find(has) : undefined;
    if (keyword === undefined) return;
    throw new GrammarError(
      'unsupported',
      `the strict schema of ${tool.name} has ${keyword} at ${path}, to which calls in this ` +
        "model's own format, which is not JSON, cannot be held",
    );
  }

  #schema(tool: GrammarTool, schema: unknown, prefix: string): Expression | undefined {
    try {
      return this.adopt(grammarOfSchema(schema), prefix);
    } catch (error) {
      if (tool.isStrict || !(error instanceof GrammarError)) throw error;
      return undefined;
    }
  }

  #anyObject(): Expression {
    const name = 'any object';
    if (!this.rules.has(name)) {
      this.rules.set(name, this.adopt(grammarOfSchema(ANY_OBJECT), name));
    }
    return { kind: 'rule', name };
  }

  /** Takes over another grammar, its rules under names of their own. */
  adopt({ root, rules }: Grammar, prefix: string): Expression {
    const rename = renamer(prefix);
    for (const [name, rule] of rules) this.rules.set(`${prefix}: ${name}`, rename(rule));
    return rename(root);
  }
}

/** What text without quotes is not held to. */
const COMBINATIONS = ['not', 'allOf'];
/** What values in braces are not held to. */
const BRACED_BOUNDS = [
  ...COMBINATIONS,
  'oneOf',
  'if',
  'uniqueItems',
  'prefixItems',
  'contains',
  'patternProperties',
  'minProperties',
  'maxProperties',
];

interface BracedSchema extends ObjectSchema {
  readonly $ref?: string;
  readonly anyOf?: readonly unknown[];
  readonly items?: unknown;
  readonly minItems?: number;
  readonly maxItems?: number;
}

interface StringSchema {
  readonly pattern?: string;
  readonly format?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
}

interface ObjectSchema {
  readonly properties?: Readonly<Record<string, unknown>>;
  readonly required?: readonly string[];
  readonly $defs?: unknown;
  readonly definitions?: unknown;
}

function propertiesOf({ parameters }: GrammarTool): Readonly<Record<string, unknown>> {
  return ((parameters ?? {}) as ObjectSchema).properties ?? {};
}

function isRequired({ parameters }: GrammarTool, name: string): boolean {
  return ((parameters ?? {}) as ObjectSchema).required?.includes(name) === true;
}

function literalsOf(schema: unknown): readonly unknown[] | undefined {
  const { enum: values, const: value } = (schema ?? {}) as { enum?: unknown[]; const?: unknown };
  return values ?? (value === undefined ? undefined : [value]);
}

const NOTHING: Expression = { kind: 'text', text: '' };

const ANY_CHARACTER: Expression = { kind: 'character', ranges: [[0, 0x10ffff]] };

const ANY_KEY: Expression = {
  kind: 'repeat',
  body: {
    kind: 'character',
    ranges: [
      [0x30, 0x39],
      [0x41, 0x5a],
      [0x5f, 0x5f],
      [0x61, 0x7a],
    ],
  },
  min: 1,
  max: 64,
};

/** Throws GrammarError. */
function grammarOfSchema(schema: unknown): Grammar {
  return schemaGrammar(readJsonValue(JSON.stringify(schema)));
}

/** Items with commas between. */
function listOf(item: Expression, min = 0, max?: number): Expression {
  if (max === 0) return NOTHING;
  const more = repeat(
    sequence(',', item),
    Math.max(0, min - 1),
    max === undefined ? undefined : max - 1,
  );
  const items = sequence(item, more);
  return min === 0 ? repeat(items, 0, 1) : items;
}

export function text(text: string): Expression {
  return { kind: 'text', text };
}

export function sequence(...parts: readonly (Expression | string)[]): Expression {
  const expressions = parts.map((part) => (typeof part === 'string' ? text(part) : part));
  return { kind: 'sequence', parts: expressions };
}

export function choice(...options: readonly Expression[]): Expression {
  return { kind: 'choice', options };
}

export function repeat(body: Expression, min: number, max?: number): Expression {
  return { kind: 'repeat', body, min, max };
}

/** Expressions with the rules that they name renamed; what is shared stays shared. */
function renamer(prefix: string): (expression: Expression) => Expression {
  const known = new Map<Expression, Expression>();
  const rename = (expression: Expression): Expression => {
    const before = known.get(expression);
    if (before !== undefined) return before;
    const renamed = renameOne(expression);
    known.set(expression, renamed);
    return renamed;
  };
  const renameOne = (expression: Expression): Expression => {
    switch (expression.kind) {
      case 'rule':
        return { kind: 'rule', name: `${prefix}: ${expression.name}` };
      case 'sequence':
      case 'intersection':
        return { ...expression, parts: expression.parts.map(rename) };
      case 'choice':
        return { ...expression, options: expression.options.map(rename) };
      case 'repeat':
        return { ...expression, body: rename(expression.body) };
      case 'difference': {
        const { body, without } = expression;
        return { kind: 'difference', body: rename(body), without: rename(without) };
      }
      default:
        return expression;
    }
  };
  return rename;
}
