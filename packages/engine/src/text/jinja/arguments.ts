import { fail } from './errors.ts';
import { asIndex, refuseUndefined } from './operators.ts';
import {
  type Arguments,
  asText,
  Callable,
  Markup,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

/** A parameter's name, and its default where it has one. `/name` takes no argument by name. */
export type Signature = readonly (string | readonly [string, Value])[];

/** Python's binding of arguments to parameters. Throws JinjaError where Python raises TypeError. */
export function bind(what: string, signature: Signature, given: Arguments): Value[] {
  if (given.positional.length > signature.length) fail(`${what} takes fewer arguments`);
  let used = 0;
  const values = signature.map((parameter, at) => {
    const [written, otherwise] = typeof parameter === 'string' ? [parameter] : parameter;
    const isByName = !written.startsWith('/') && given.named.has(written);
    if (at < given.positional.length) {
      if (isByName) fail(`${what} is given "${written}" twice`);
      return given.positional[at]!;
    }
    if (isByName) {
      used += 1;
      return given.named.get(written)!;
    }
    return otherwise === undefined ? fail(`${what} is not given "${written}"`) : otherwise;
  });
  if (used < given.named.size) fail(`${what} takes no argument of a name that it is given`);
  return values;
}

/** A function of Python: parameters, and what it does. */
export function callable(
  name: string,
  signature: Signature,
  call: (...values: Value[]) => Value,
): Callable {
  return new Callable('builtin_function_or_method', (given) =>
    call(...bind(name, signature, given)),
  );
}

export function wantText(value: Value | undefined, what: string): string {
  const text = value === undefined ? undefined : asText(value);
  if (text !== undefined) return text;
  if (value instanceof Undefined) fail(value.reason);
  return fail(`${what} wants a string, not '${typeName(value ?? null)}'`);
}

export function wantInteger(value: Value | undefined, what: string): number {
  const index = value === undefined ? undefined : asIndex(value);
  if (index !== undefined) return index;
  if (value !== undefined) refuseUndefined(value);
  return fail(`${what} wants an integer, not '${typeName(value ?? null)}'`);
}

/** A str: Markup only stays Markup where Jinja2 joins it to another. */
export function plain(value: Value): Value {
  return value instanceof Markup ? value.text : value;
}
