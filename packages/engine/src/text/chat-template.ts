import { Environment, Interpreter, Template } from '@huggingface/jinja';
import { TextError } from './errors.ts';
import { TemplateRefusal, templateGlobals } from './template-globals.ts';

/** A conversation and how to write it down. */
export interface ChatInput {
  readonly messages: readonly unknown[];
  /** JSON schemas of functions; undefined is what transformers passes as None. */
  readonly tools?: readonly unknown[] | undefined;
  readonly documents?: readonly unknown[] | undefined;
  /** Whether to open the assistant's turn. */
  readonly addGenerationPrompt: boolean;
  /** Further variables: a request's chat_template_kwargs. */
  readonly variables?: Readonly<Record<string, unknown>> | undefined;
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

function reasonOf(error: unknown): string {
  return error instanceof RangeError ? 'it is nested too deeply' : (error as Error).message;
}

function parse(source: string): Parsed {
  try {
    return { source, template: new Template(source) };
  } catch (error) {
    throw new TextError('template-failed', `the chat template does not parse: ${reasonOf(error)}`);
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

  /** The prompt's text. Throws TextError; its message never quotes the conversation. */
  render(input: ChatInput): string {
    const { source, template } = this.#select(input);
    const scope = this.#scope(input);
    try {
      return new Interpreter(scope).run(template.parsed).value as string;
    } catch (error) {
      throw failure(error, source);
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

  #scope(input: ChatInput): Environment {
    const fixed: Record<string, unknown> = {
      ...templateGlobals(this.#options.now),
      messages: input.messages,
      tools: input.tools ?? null,
      documents: input.documents ?? null,
      add_generation_prompt: input.addGenerationPrompt,
    };
    const variables = { ...this.#options.specialTokens, ...input.variables };
    const scope = new Environment();
    for (const [name, value] of Object.entries(fixed)) scope.set(name, value);
    for (const [name, value] of Object.entries(variables)) {
      if (Object.hasOwn(fixed, name)) {
        throw new TextError('bad-variable', `template variable "${name}" cannot be replaced`);
      }
      scope.set(name, value);
    }
    return scope;
  }
}

/**
 * Jinja's own messages name types and the template's identifiers; a refusal may be built from the
 * conversation.
 */
function failure(error: unknown, source: string): TextError {
  if (error instanceof TemplateRefusal) {
    const isConstant = error.message !== '' && source.includes(error.message);
    const reason = isConstant ? `: ${error.message}` : '';
    return new TextError(
      'template-refused',
      `the chat template refuses this conversation${reason}`,
    );
  }
  return new TextError('template-failed', `the chat template failed: ${reasonOf(error)}`);
}
