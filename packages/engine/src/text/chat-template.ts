import { TextError } from './errors.ts';
import { JinjaError } from './jinja/errors.ts';
import type { Environment } from './jinja/interpreter.ts';
import { Template } from './jinja/template.ts';
import type { Dict, Value } from './jinja/values.ts';
import { TEMPLATE_FILTERS, TemplateRefusal, templateGlobals } from './template-globals.ts';

/** A conversation and how to write it down. */
export interface ChatInput {
  readonly messages: readonly Value[];
  /** JSON schemas of functions; undefined is what transformers passes as None. */
  readonly tools?: Value | undefined;
  readonly documents?: Value | undefined;
  /** Whether to open the assistant's turn. */
  readonly addGenerationPrompt: boolean;
  /** Further variables: a request's chat_template_kwargs. */
  readonly variables?: Dict | undefined;
  /**
   * The name of one of the model's templates. By default "tool_use" where tools are given, or
   * "default".
   */
  readonly templateName?: string | undefined;
  /** The source of a template to use instead of the model's. */
  readonly template?: string | undefined;
}

export interface ChatTemplateOptions {
  /** Template sources by name; the usual single one is "default". */
  readonly sources: ReadonlyMap<string, string>;
  /** bos_token, eos_token and the like: every template sees them. */
  readonly specialTokens: Readonly<Record<string, string>>;
  /** The date that strftime_now formats; without it strftime_now is undefined. */
  readonly now?: (() => Date) | undefined;
}

interface Parsed {
  readonly source: string;
  readonly template: Template;
}

/** Functions that templates rely on, beside what is given to them. */
const FIXED = ['range', 'dict', 'namespace', 'strftime_now'];

function parse(source: string): Parsed {
  try {
    return { source, template: new Template(source) };
  } catch (error) {
    throw failure(error, source, 'does not parse');
  }
}

/** A model's chat templates: Jinja, as transformers renders it. */
export class ChatTemplate {
  readonly #options: ChatTemplateOptions;
  readonly #parsed = new Map<string, Parsed>();

  constructor(options: ChatTemplateOptions) {
    this.#options = options;
  }

  get isPresent(): boolean {
    return this.#options.sources.size > 0;
  }

  /** Whether any of the templates names a variable: where none does, it changes nothing. */
  mentions(variable: string): boolean {
    const name = new RegExp(`\\b${variable}\\b`);
    return [...this.#options.sources.values()].some((source) => name.test(source));
  }

  /** Whether one of the templates has all of these texts in it. */
  shows(texts: readonly string[]): boolean {
    const sources = [...this.#options.sources.values()];
    return sources.some((source) => texts.every((text) => source.includes(text)));
  }

  /** The prompt's text. Throws TextError; its message never quotes the conversation. */
  render(input: ChatInput): string {
    const { source, template } = this.#select(input);
    const environment = this.#environment(input);
    try {
      return template.render(environment);
    } catch (error) {
      throw failure(error, source, 'failed');
    }
  }

  #select(input: ChatInput): Parsed {
    if (input.template !== undefined) return parse(input.template);
    const { sources } = this.#options;
    const wanted = input.templateName ?? (input.tools && sources.has('tool_use') && 'tool_use');
    const name = wanted || 'default';
    const cached = this.#parsed.get(name);
    if (cached !== undefined) return cached;
    const source = sources.get(name);
    if (source === undefined) throw this.#absent(name);
    const parsed = parse(source);
    this.#parsed.set(name, parsed);
    return parsed;
  }

  #absent(name: string): TextError {
    if (!this.isPresent) {
      const advice = 'send a prompt to /v1/completions, or add chat_template.jinja to the folder';
      return new TextError('no-template', `this model has no chat template; ${advice}`);
    }
    const known = [...this.#options.sources.keys()].join(', ');
    return new TextError('no-template', `no chat template "${name}"; there are: ${known}`);
  }

  #environment(input: ChatInput): Environment {
    const variables = templateGlobals(this.#options.now);
    variables.set('messages', [...input.messages]);
    variables.set('tools', input.tools ?? null);
    variables.set('documents', input.documents ?? null);
    variables.set('add_generation_prompt', input.addGenerationPrompt);
    const fixed = new Set([...variables.keys(), ...FIXED]);
    const { specialTokens } = this.#options;
    for (const [name, value] of [...Object.entries(specialTokens), ...entriesOf(input.variables)]) {
      if (fixed.has(name)) {
        throw new TextError('bad-variable', `template variable "${name}" cannot be replaced`);
      }
      variables.set(name, value);
    }
    return { filters: TEMPLATE_FILTERS, variables };
  }
}

function* entriesOf(variables: Dict | undefined): Iterable<readonly [string, Value]> {
  for (const [name, value] of variables?.entries() ?? []) yield [name as string, value];
}

/** A refusal may be built from the conversation: only what the template itself says is repeated. */
function failure(error: unknown, source: string, what: string): unknown {
  if (error instanceof TemplateRefusal) {
    const isConstant = error.message !== '' && source.includes(error.message);
    const reason = isConstant ? `: ${error.message}` : '';
    return new TextError(
      'template-refused',
      `the chat template refuses this conversation${reason}`,
    );
  }
  // The stack holds more than the bounds on nesting; where it does not, that is one more bound.
  const isLimit = error instanceof RangeError;
  if (!isLimit && !(error instanceof JinjaError)) return error;
  const reason = isLimit ? 'it is nested too deeply' : error.message;
  const code = isLimit || error.code === 'limit' ? 'template-too-costly' : 'template-failed';
  return new TextError(code, `the chat template ${what}: ${reason}`);
}
