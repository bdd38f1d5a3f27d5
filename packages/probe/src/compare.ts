import { type Profile, ProfileError, parseProfile } from '@bridgekeeper/bridge';
import type { MeasuredRun } from '@bridgekeeper/report';
import { z } from 'zod';
import { CompareError, type CompareErrorCode } from './errors.ts';
import { parametersOf } from './parameters.ts';
import { type Ratio, ratiosOf } from './ratios.ts';

/** One side of a comparison: a probe's result, or a profile alone. */
export interface Compared {
  readonly name: string;
  readonly profile: Profile;
  readonly runs: readonly MeasuredRun[];
  readonly origin: Origin | null;
}

type Origin = z.infer<typeof originSchema>;

export interface Comparison {
  readonly sides: readonly [Compared, Compared];
  readonly ratios: readonly Ratio[];
  readonly parameters: readonly Difference[];
  /** What makes the comparison mean less than it seems. */
  readonly warnings: readonly string[];
}

export interface Difference {
  readonly title: string;
  readonly values: readonly [string, string];
  /** The second by the first; null where the first is nothing. */
  readonly ratio: number | null;
}

const runSchema = z.object({
  parameters: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])),
  metrics: z.record(z.string(), z.number()),
  repeats: z.number(),
  spread: z.record(z.string(), z.tuple([z.number(), z.number()])),
});

const originSchema = z.object({
  version: z.string(),
  startedAt: z.string(),
  isComplete: z.boolean(),
  isQuick: z.boolean(),
  facts: z.object({
    gpu: z.string(),
    gpuUuid: z.string().nullable(),
    driver: z.string().nullable(),
    law: z.string().nullable(),
  }),
});

const resultSchema = originSchema.extend({
  suite: z.literal('probe'),
  runs: z.array(runSchema),
  profile: z.unknown(),
});

/** Reads what `probe --out` wrote, or a profile. Throws CompareError. */
export function parseCompared(text: string, path: string): Compared {
  try {
    const json: unknown = JSON.parse(text);
    const isResult = typeof json === 'object' && json !== null && 'suite' in json;
    if (!isResult) {
      const profile = parseProfile(json);
      return { name: profile.name, profile, runs: [], origin: null };
    }
    const { runs, profile: found, ...origin } = resultSchema.parse(json);
    if (found === null) {
      throw new CompareError('no-profile', `${path}: this probe ended before it had a profile`);
    }
    const profile = parseProfile(found);
    return { name: profile.name, profile, runs, origin };
  } catch (error) {
    if (error instanceof CompareError) throw error;
    const { code, reason } = faultOf(error);
    throw new CompareError(code, `${path}: ${reason}`, { cause: error });
  }
}

function faultOf(error: unknown): { readonly code: CompareErrorCode; readonly reason: string } {
  if (error instanceof ProfileError) return { code: 'bad-profile', reason: error.message };
  if (error instanceof z.ZodError) {
    const issue = error.issues[0];
    const reason = `is no result of probe: at "${issue?.path.join('.')}": ${issue?.message}`;
    return { code: 'not-a-result', reason };
  }
  if (error instanceof SyntaxError) return { code: 'not-json', reason: 'is no JSON' };
  throw error;
}

export function compare(first: Compared, second: Compared): Comparison {
  const before = parametersOf(first.profile);
  const after = parametersOf(second.profile);
  const parameters = before.flatMap(({ path, title, value, text }): Difference[] => {
    const other = after.find((parameter) => parameter.path === path);
    // Not every machine has several GPUs.
    if (other === undefined) return [];
    const ratio = value === 0 ? null : other.value / value;
    return [{ title, values: [text(value), other.text(other.value)], ratio }];
  });
  return {
    sides: [first, second],
    ratios: ratiosOf(second.profile, first.profile),
    parameters,
    warnings: [
      ...differencesOf(first.origin, second.origin),
      ...linkDifferences(first, second),
      ...[first, second].flatMap(doubtsOf),
    ],
  };
}

function linkDifferences(first: Compared, second: Compared): string[] {
  const [a, b] = [first.profile.links?.gpus, second.profile.links?.gpus];
  if (a === b) return [];
  if (a === undefined || b === undefined) {
    return [`collectives were measured for ${a === undefined ? second.name : first.name} alone`];
  }
  return [`collectives are those of ${a} and of ${b} GPUs`];
}

function doubtsOf({ name, origin }: Compared): string[] {
  if (origin === null) return [`${name} is a profile alone: its measurements are not there`];
  return [
    ...(origin.isComplete ? [] : [`${name}: the probe did not come to its end`]),
    ...(origin.isQuick ? [`${name}: a quick probe`] : []),
    ...(origin.facts.law === null ? [] : [`${name}: the times of an imposed law`]),
  ];
}

function differencesOf(first: Origin | null, second: Origin | null): string[] {
  if (first === null || second === null) return [];
  const [a, b] = [first.facts, second.facts];
  const differ = (what: string, one: string | null, other: string | null) =>
    one === other ? [] : [`${what} differ: ${one ?? 'not known'} and ${other ?? 'not known'}`];
  const gpus = differ('the GPUs', a.gpu, b.gpu);
  const machines = a.gpuUuid === b.gpuUuid ? [] : ['they are two GPUs, by their UUIDs'];
  return [
    ...(gpus.length > 0 ? gpus : machines),
    ...differ('the drivers', a.driver, b.driver),
    ...differ('the versions of bridgekeeper', first.version, second.version),
  ];
}
