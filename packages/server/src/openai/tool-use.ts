import { ApiError } from '../http/errors.ts';
import type { ServerContext } from './context.ts';
import type { ChatCompletionRequest } from './schema/chat.ts';

/** A function that the model may call. */
export interface FunctionTool {
  readonly name: string;
  /** A JSON schema; undefined: it takes whatever comes. */
  readonly parameters: unknown;
  /** Arguments are held to the schema. */
  readonly isStrict: boolean;
}

/** What a request says of tools: which may be called, and whether one must be. */
export interface ToolUse {
  readonly tools: readonly FunctionTool[];
  readonly mustCall: boolean;
  /** More than one call may come. */
  readonly isParallel: boolean;
}

type Choice = NonNullable<ChatCompletionRequest['tool_choice']>;

const MAX_NAME_UNITS = 256;

/**
 * What the request says of tools. undefined: calls in the answer are not read, so that it is text.
 * Throws ApiError.
 */
export function toolUseOf(
  { text, readsAutoCalls }: Pick<ServerContext, 'readsAutoCalls' | 'text'>,
  { tools: given, tool_choice: choice, parallel_tool_calls: parallel }: ChatCompletionRequest,
): ToolUse | undefined {
  const { format } = text;
  const hasTools = given != null && given.length > 0;
  const wanted = choice ?? (hasTools ? 'auto' : 'none');
  if (wanted === 'none' || (wanted === 'auto' && !hasTools)) return undefined;
  if (!hasTools) {
    throw new ApiError('invalid_value', 'tool_choice can only be given with tools.', 'tool_choice');
  }
  const isOff = wanted === 'auto' && !readsAutoCalls;
  const callsAreKnown =
    format?.format.kind === 'harmony' || (format?.format.tools ?? undefined) !== undefined;
  if (isOff || !callsAreKnown) {
    const flag = isOff ? '--enable-auto-tool-choice' : '--tool-call-parser';
    if (!isOff && wanted === 'auto') {
      const { chatTemplate } = text.tokenizer;
      // What is not known may be text of any kind: it is given as it comes, as ever.
      if (!chatTemplate.isPresent || chatTemplate.mentions('tools')) return undefined;
      const message =
        "tools cannot be honoured: this model's chat template makes nothing of them. Where it " +
        'can write calls all the same, start the server with --tool-call-parser to say how.';
      throw new ApiError('unsupported_value', message, 'tools');
    }
    const reason = isOff
      ? 'is off'
      : 'does not say how this model writes calls (hermes suits many models)';
    const message = `tool_choice cannot be honoured: the server's ${flag} ${reason}.`;
    throw new ApiError('unsupported_value', message, 'tool_choice');
  }
  const tools = given.map(functionTool);
  const { mustCall, names } = allowedBy(wanted);
  const unknown = names?.find((name) => !tools.some((tool) => tool.name === name));
  if (unknown !== undefined) {
    const message = 'tool_choice names a function that tools do not have.';
    throw new ApiError('invalid_value', message, 'tool_choice');
  }
  return {
    tools: names === undefined ? tools : tools.filter(({ name }) => names.includes(name)),
    mustCall,
    isParallel: parallel ?? true,
  };
}

/** `names` undefined: every tool. */
function allowedBy(choice: Exclude<Choice, 'none'>): {
  readonly mustCall: boolean;
  readonly names: readonly string[] | undefined;
} {
  if (choice === 'auto' || choice === 'required') {
    return { mustCall: choice === 'required', names: undefined };
  }
  if (choice.type === 'function') return { mustCall: true, names: [choice.function.name] };
  const { mode, tools } = choice.allowed_tools;
  return { mustCall: mode === 'required', names: tools.map((tool) => tool.function.name) };
}

function functionTool(tool: Readonly<Record<string, unknown>>, at: number): FunctionTool {
  const param = `tools.${at}`;
  const refuse = (what: string) => new ApiError('invalid_value', `${param}${what}.`, param);
  const { type = 'function', function: described } = tool;
  if (type !== 'function') throw refuse('.type must be "function"');
  if (typeof described !== 'object' || described === null) {
    throw refuse('.function must be an object');
  }
  const { name, parameters, strict } = described as Readonly<Record<string, unknown>>;
  if (typeof name !== 'string' || name === '' || name.length > MAX_NAME_UNITS) {
    throw refuse(`.function.name must be text of 1 to ${MAX_NAME_UNITS} characters`);
  }
  const isSchema = typeof parameters === 'object' && !Array.isArray(parameters);
  if (parameters !== undefined && !isSchema) {
    throw refuse('.function.parameters must be a JSON schema');
  }
  return { name, parameters: parameters ?? undefined, isStrict: strict === true };
}
