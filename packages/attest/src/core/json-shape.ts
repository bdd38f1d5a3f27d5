import { z } from 'zod';
import { AttestError, demand } from './errors.ts';

/** Lower-case hexadecimal of so many bytes: one spelling, so that digests of documents agree. */
export function hexOf(bytes: number) {
  return z.string().regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`), `must be ${bytes} bytes in hex`);
}

/** A number of things: 0 or more, exact. */
export const count = z.int().min(0);

/**
 * Parses JSON of at most `charactersMax`. Throws AttestError 'too-large' or 'malformed', whose
 * message does not quote the text.
 */
export function parseJson(text: string, charactersMax: number, what: string): unknown {
  demand(text.length <= charactersMax, 'too-large', `${what} has ${text.length} characters`);
  try {
    return JSON.parse(text);
  } catch {
    throw new AttestError('malformed', `${what} is not JSON`);
  }
}

/** Reads plain data of one shape. Throws AttestError 'malformed' that says which field is wrong. */
export function readShape<S extends z.ZodType>(schema: S, value: unknown, what: string) {
  const { success, data, error } = schema.safeParse(value);
  if (success) return data as z.output<S>;
  const { path, message } = error!.issues[0]!;
  throw new AttestError('malformed', `${what}: ${path.join('.') || 'the document'}: ${message}`);
}
