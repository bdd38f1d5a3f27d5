import { Dict, exactJson, type TemplateValue } from '@bridgekeeper/engine/text';
import type { ContentRule } from '../grammar/task.ts';
import { ApiError } from '../http/errors.ts';
import type { GenerationFields } from './sampling.ts';

/** What the content of an answer must be, and the field that says so. */
export interface AnswerContent {
  readonly rule: ContentRule;
  readonly param: string;
}

type Structured = NonNullable<GenerationFields['structured_outputs']>;
type ResponseFormat = NonNullable<GenerationFields['response_format']>;

/**
 * What the content of an answer must be, in whichever of the known spellings a request says it;
 * undefined: any text. Schemas are taken from the body as it was received: with their keys in
 * order, and their numbers as they were spelt. Throws ApiError where a field says nothing that can
 * be done, and where two say something.
 */
export function answerContent(
  fields: GenerationFields,
  exactBody: () => Dict,
): AnswerContent | undefined {
  const reader = new ContentReader(exactBody);
  const said = [
    ...reader.responseFormat(fields.response_format),
    ...reader.structured(fields.structured_outputs),
    ...reader.schema('guided_json', fields.guided_json),
    ...reader.pattern('guided_regex', fields.guided_regex),
    ...reader.options('guided_choice', fields.guided_choice),
    ...reader.grammar('guided_grammar', fields.guided_grammar),
    ...reader.schema('json_schema', fields.json_schema),
    ...reader.pattern('regex', fields.regex),
    ...reader.grammar('ebnf', fields.ebnf),
    ...reader.grammar('grammar', fields.grammar),
    ...reader.structures('structural_tag', fields.structural_tag),
  ];
  const [first, second] = said;
  if (first !== undefined && second !== undefined) {
    const message = `${first.param} and ${second.param} cannot both be given.`;
    throw new ApiError('invalid_value', message, second.param);
  }
  return first;
}

const STRUCTURED_FIELDS: ReadonlySet<string> = new Set([
  ...['json', 'regex', 'choice', 'grammar', 'json_object', 'structural_tag', 'property_order'],
  // Both are so: JSON has one space behind a comma or a colon, or none.
  'disable_any_whitespace',
  // There is one way to compile grammars.
  'disable_fallback',
]);
/** Characters of a field's name. */
const MAX_SHOWN = 64;

/** Each method gives nothing for a field that is not there, and at most one rule. */
class ContentReader {
  readonly #exactBody: () => Dict;

  constructor(exactBody: () => Dict) {
    this.#exactBody = exactBody;
  }

  responseFormat(format: ResponseFormat | null | undefined): AnswerContent[] {
    const param = 'response_format';
    switch (format?.type) {
      case undefined:
      case 'text':
        return [];
      case 'json_object':
        if (format.schema != null) return this.schema(`${param}.schema`, format.schema);
        return [{ rule: { kind: 'json-object' }, param }];
      case 'json_schema': {
        const at = `${param}.json_schema`;
        const schema = format.json_schema?.schema ?? format.schema;
        if (schema == null) throw missing(`${at}.schema`);
        const path = format.json_schema?.schema == null ? `${param}.schema` : `${at}.schema`;
        return this.schema(path, schema);
      }
      case 'structural_tag':
        return this.structures(param, format);
      default:
        throw new ApiError(
          'unsupported_value',
          `${param} cannot be honoured: there are the types text, json_object, json_schema and ` +
            'structural_tag.',
          param,
        );
    }
  }

  structured(fields: Structured | null | undefined): AnswerContent[] {
    if (fields == null) return [];
    const param = 'structured_outputs';
    for (const [name, value] of Object.entries(fields)) {
      if (STRUCTURED_FIELDS.has(name) || value == null || value === false) continue;
      const path = `${param}.${name.slice(0, MAX_SHOWN)}`;
      throw new ApiError('unsupported_value', `${path} cannot be honoured: it is not known.`, path);
    }
    const order = fields.property_order ?? 'declared';
    const said = [
      ...this.schema(`${param}.json`, fields.json, order),
      ...this.pattern(`${param}.regex`, fields.regex),
      ...this.options(`${param}.choice`, fields.choice),
      ...this.grammar(`${param}.grammar`, fields.grammar),
      ...this.structures(`${param}.structural_tag`, fields.structural_tag),
      ...(fields.json_object === true
        ? [{ rule: { kind: 'json-object' } as const, param: `${param}.json_object` }]
        : []),
    ];
    if (said.length > 0) return said;
    throw new ApiError(
      'invalid_value',
      `${param} must have one of json, regex, choice, grammar, json_object and structural_tag.`,
      param,
    );
  }

  schema(path: string, value: unknown, order: 'declared' | 'free' = 'declared'): AnswerContent[] {
    if (value == null || value === '') return [];
    const schema = typeof value === 'string' ? value : this.#exactText(path);
    return [{ rule: { kind: 'json-schema', schema, order }, param: path }];
  }

  pattern(param: string, pattern: string | null | undefined): AnswerContent[] {
    if (pattern == null || pattern === '') return [];
    return [{ rule: { kind: 'regex', pattern }, param }];
  }

  options(param: string, options: readonly string[] | null | undefined): AnswerContent[] {
    if (options == null) return [];
    return [{ rule: { kind: 'choice', options }, param }];
  }

  grammar(param: string, source: string | null | undefined): AnswerContent[] {
    if (source == null || source === '') return [];
    return [{ rule: { kind: 'grammar', source }, param }];
  }

  /** vLLM's `structures` and `triggers`, as an object or as its text. */
  structures(param: string, value: unknown): AnswerContent[] {
    if (value == null || value === '') return [];
    const { structures, triggers, format } = asObject(value, param);
    if (format !== undefined) {
      const message = `${param}.format cannot be honoured: say structures and triggers instead.`;
      throw new ApiError('unsupported_value', message, `${param}.format`);
    }
    if (!isTexts(triggers) || triggers.length === 0) {
      throw new ApiError('invalid_value', `${param}.triggers must be texts.`, `${param}.triggers`);
    }
    if (!Array.isArray(structures) || structures.length === 0) throw missing(`${param}.structures`);
    const read = structures.map((each, at) => {
      const path = `${param}.structures.${at}`;
      const { begin, schema = {}, end } = asObject(each, path);
      if (typeof begin !== 'string' || typeof end !== 'string') {
        throw new ApiError('invalid_value', `${path} must have texts begin and end.`, path);
      }
      const isText = typeof value === 'string' || typeof schema === 'string';
      const text = isText ? textOf(schema) : this.#exactText(`${path}.schema`);
      return { begin, schema: text, end };
    });
    return [{ rule: { kind: 'structures', triggers, structures: read }, param }];
  }

  /** What is at a path of the body; an empty schema where there is nothing. */
  #exactText(path: string): string {
    let value: TemplateValue | undefined = this.#exactBody();
    for (const key of path.split('.')) {
      if (value instanceof Dict) value = value.get(key);
      else value = Array.isArray(value) ? value[Number(key)] : undefined;
    }
    return value === undefined ? '{}' : exactJson(value);
  }
}

function textOf(schema: unknown): string {
  return typeof schema === 'string' ? schema : JSON.stringify(schema);
}

function missing(param: string): ApiError {
  return new ApiError('invalid_value', `${param} is missing.`, param);
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((each) => typeof each === 'string');
}

function asObject(value: unknown, param: string): Readonly<Record<string, unknown>> {
  let object = value;
  if (typeof value === 'string') {
    try {
      object = JSON.parse(value);
    } catch {
      object = undefined;
    }
  }
  if (typeof object === 'object' && object !== null && !Array.isArray(object)) {
    return object as Readonly<Record<string, unknown>>;
  }
  throw new ApiError('invalid_value', `${param} must be a JSON object.`, param);
}
