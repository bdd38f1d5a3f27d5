import { z } from 'zod';

const text = z.string();
const count = z.int().min(0);
const code = text.describe('of a closed list: docs/reference/errors.md');

const claim = z
  .strictObject({
    kind: text.describe('what it states, like gpu.signature; policies go by it'),
    subject: text.describe('what it is about, like GPU-0'),
    status: z.enum(['verified', 'depends-on', 'refused', 'unverified']),
    voucher: z.enum([
      'device-signed',
      'cpu-signed',
      'vendor-signed',
      'guest-observed',
      'operator-asserted',
    ]),
    statement: text,
    evidence: z.array(text).readonly(),
    value: z.union([text, z.number(), z.boolean(), z.null(), z.array(text).readonly()]).optional(),
    code: code.optional(),
    why: text.optional().describe('why it matters that this is not verified'),
  })
  .readonly();

const allowance = z.strictObject({ claim, rule: text, because: text }).readonly();

const verdict = z
  .strictObject({
    result: z.enum(['verified', 'refused']),
    policy: text,
    reasons: z
      .array(
        z.strictObject({
          rule: text.describe('a path into the policy'),
          subject: text,
          kind: text,
          text,
          code: code.optional(),
        }),
      )
      .readonly(),
    tolerated: z.array(allowance).readonly(),
    believed: z.array(allowance).readonly(),
  })
  .readonly();

const trustValue = z.union([z.literal(0), z.literal(2), z.literal(32), z.literal(96)]);

const appraisal = z
  .strictObject({
    status: z.enum(['none', 'affirming', 'warning', 'contraindicated']),
    vector: z.partialRecord(
      z.enum(['instance-identity', 'configuration', 'executables', 'hardware']),
      trustValue,
    ),
  })
  .readonly();

const run = z
  .strictObject({
    parameters: z.strictObject({ input: text, policy: text, at: z.iso.datetime() }),
    metrics: z.strictObject({
      verdict: z.enum(['verified', 'refused']),
      claimsVerified: count,
      claimsRefused: count,
      claimsUnverified: count,
      elapsedMs: z.number().min(0),
    }),
    repeats: z.literal(1),
    spread: z.record(text, z.never()),
  })
  .readonly();

const frame = {
  suite: z.literal('verify'),
  version: text.describe('of the program'),
  command: text,
  startedAt: z.iso.datetime(),
  machine: z.strictObject({
    device: text,
    cpu: text,
    cores: count,
    driver: text.nullable(),
    node: text,
  }),
};

const judged = z.strictObject({
  ...frame,
  runs: z.tuple([run]).readonly(),
  verdict,
  claims: z.array(claim).readonly(),
  appraisals: z.record(text, appraisal),
  notes: z.array(text).readonly(),
  unreadable: z
    .array(z.strictObject({ name: text, code, message: text }))
    .readonly()
    .describe('what was given and could not be read: the exit code is then 2'),
});

const failed = z.strictObject({
  ...frame,
  runs: z.array(z.never()).length(0).readonly(),
  error: z.strictObject({
    name: text.describe('the class of the error'),
    code,
    message: text,
  }),
});

/** What `verify --json` prints: a result, or why there is none. */
const verifyOutputSchema = z.union([judged, failed]);
export type VerifyOutput = z.infer<typeof verifyOutputSchema>;

/** The same as JSON Schema 2020-12. */
export function verifyJsonSchema(): object {
  return z.toJSONSchema(verifyOutputSchema, { io: 'output' });
}
