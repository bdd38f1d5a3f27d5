import type { z } from '@hono/zod-openapi';
import { ApiError } from './errors.ts';

/** Of faults in a message. */
const SHOWN_FAULTS = 3;

/**
 * Checks a parsed JSON body. Throws ApiError `invalid_value` that names the first field at fault,
 * and says of the next few what is wrong with them.
 */
export function validate<S extends z.ZodType>(schema: S, body: unknown): z.output<S> {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const { issues } = result.error;
  const shown = issues.slice(0, SHOWN_FAULTS).map((issue) => deepest(issue, []));
  const faults = shown.map((issue) => `${issue.path.join('.') || 'The body'} ${describe(issue)}`);
  const more = issues.length - shown.length;
  if (more > 0) faults.push(`and ${more} more`);
  throw new ApiError('invalid_value', `${faults.join('; ')}.`, shown[0]!.path.join('.'));
}

type Issue = z.core.$ZodIssue;

/** A union fails with one list of issues for each member: the one that got furthest says most. */
function deepest(issue: Issue, path: readonly PropertyKey[]): Issue {
  const here = [...path, ...issue.path];
  if (issue.code === 'invalid_union') {
    const nested = issue.errors.flatMap((list) => list.map((each) => deepest(each, here)));
    const best = nested.reduce<Issue | undefined>(
      (a, b) => (a === undefined || b.path.length > a.path.length ? b : a),
      undefined,
    );
    if (best !== undefined && best.path.length > here.length) return best;
  }
  return { ...issue, path: here } as Issue;
}

const NAMES: Readonly<Record<string, string>> = {
  int: 'an integer',
  number: 'a number',
  string: 'a string',
  boolean: 'true or false',
  array: 'an array',
  object: 'an object',
  record: 'an object',
};

/** Says what was expected; never what was received, which may be prompt text. */
function describe(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return issue.message.endsWith('undefined')
        ? 'is required'
        : `must be ${NAMES[issue.expected] ?? issue.expected}`;
    case 'too_small':
      return `must ${sized(issue.origin)} at least ${issue.minimum}${unit(issue.origin)}`;
    case 'too_big':
      return `must ${sized(issue.origin)} at most ${issue.maximum}${unit(issue.origin)}`;
    case 'invalid_value':
      return `must be one of ${issue.values.map((value) => JSON.stringify(value)).join(', ')}`;
    case 'custom':
      return issue.message;
    case 'invalid_format':
      // Only messages of our own begin so.
      return issue.message.startsWith('must ') ? issue.message : 'does not have an accepted form';
    default:
      return 'does not have an accepted form';
  }
}

const sized = (origin: string) => (origin === 'array' || origin === 'string' ? 'have' : 'be');
const unit = (origin: string) => {
  if (origin === 'array') return ' entries';
  return origin === 'string' ? ' characters' : '';
};
