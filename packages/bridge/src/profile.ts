import { z } from 'zod';

/** The only version this build reads. */
export const PROFILE_SCHEMA = 'bridgekeeper.profile/1';

/** What a platform may refuse, or answer wrongly, under confidential computing. Closed. */
export const FORBIDDEN_FEATURES = [
  'host-registration',
  'mapped-host-reads',
  'multicast',
  'event-timing',
] as const;
export type ForbiddenFeature = (typeof FORBIDDEN_FEATURES)[number];

const durationNs = z.number().nonnegative();
const rate = z.number().positive();
const count = z.int().positive();

const bandwidth = z
  .array(z.strictObject({ bytes: count, bytesPerSecond: rate }).readonly())
  .min(1)
  .superRefine((points, context) => {
    for (let i = 1; i < points.length; i++) {
      const before = points[i - 1]!;
      const point = points[i]!;
      if (point.bytes <= before.bytes) {
        context.addIssue({ code: 'custom', path: [i, 'bytes'], message: 'must ascend' });
      }
      // Chunk sizes are found by bisection over time: more bytes must never arrive sooner.
      if (point.bytes / point.bytesPerSecond < before.bytes / before.bytesPerSecond) {
        const message = 'makes more bytes arrive sooner than fewer';
        context.addIssue({ code: 'custom', path: [i, 'bytesPerSecond'], message });
      }
    }
  })
  .readonly();

/** What one crossing costs, for one direction and one kind of host memory. */
const crossingCost = z
  .strictObject({
    /** Fixed cost on a stream with nothing queued. */
    idleTollNs: durationNs,
    /** What is added when the stream has queued work; waiting for that work comes on top. */
    queuedTollNs: durationNs,
    /** What is added at the first crossing of freshly allocated host memory. */
    freshTollNs: durationNs,
    /** Without the toll. Interpolated in log-log between the points, constant outside them. */
    bandwidth,
    /** How long the issuing thread stands still. */
    issuer: z.discriminatedUnion('blockedUntil', [
      z.strictObject({ blockedUntil: z.literal('done') }).readonly(),
      z
        .strictObject({
          blockedUntil: z.literal('issued'),
          issueNs: durationNs,
          /** The issuer stages the bytes at this rate before it goes on; absent: it does not. */
          issueBytesPerSecond: rate.optional(),
        })
        .readonly(),
    ]),
  })
  .readonly();

const byMemory = z.strictObject({ pinned: crossingCost, pageable: crossingCost }).readonly();

const contexts = z
  .strictObject({
    /** How many may be open at once, the launching thread's own included. */
    max: count,
    createNs: durationNs,
    destroyNs: durationNs,
    /** Their rate together, relative to one alone. Linear between the points, constant after. */
    aggregateRate: z
      .array(z.strictObject({ contexts: count, factor: rate }).readonly())
      .min(1)
      .superRefine((points, context) => {
        const first = points[0]!;
        if (first.contexts !== 1 || first.factor !== 1) {
          const message = 'must be factor 1 at 1 context';
          context.addIssue({ code: 'custom', path: [0], message });
        }
        for (let i = 1; i < points.length; i++) {
          if (points[i]!.contexts <= points[i - 1]!.contexts) {
            context.addIssue({ code: 'custom', path: [i, 'contexts'], message: 'must ascend' });
          }
        }
      })
      .readonly(),
  })
  .readonly();

const submission = z
  .strictObject({
    /** How long the launching thread is busy with one kernel, in a row of launches. */
    launchNs: durationNs,
    /** The same when it waits for the kernel: an empty kernel's round trip. */
    launchWithWaitNs: durationNs,
    graphLaunchNs: durationNs,
    /** What each kernel adds on the GPU beside its own time: start, ramp and tail. */
    graphNodeNs: durationNs,
  })
  .readonly();

/** What is added to operations in which several GPUs take part. */
const collectives = z
  .strictObject({
    /** To each, whatever its size. */
    tollNs: durationNs,
    /** What large ones reach of the links' rate without confidential computing. */
    rateFactor: rate.max(1),
  })
  .readonly();

/** What a collective takes beside the start of its kernel. */
const meetingCost = z
  .strictObject({
    /** Of each, whatever its size. */
    tollNs: durationNs,
    /** Of the bytes that come to each GPU, without the toll. Read as a crossing's is. */
    bandwidth,
  })
  .readonly();

/** What GPUs of one machine took to meet, by how the kernels of this product do so. */
const links = z
  .strictObject({
    /** So many took part. */
    gpus: z.int().min(2),
    /** What a copy from one of them to another reaches; absent: not measured. */
    copyBytesPerSecond: rate.optional(),
    /** Small sums, which are written to the others. */
    pushed: meetingCost,
    /** Large sums, which are read from the others. */
    pulled: meetingCost,
    /** What is put side by side, read from the others. */
    gathered: meetingCost,
  })
  .readonly();

const roofline = z
  .strictObject({
    memoryBytes: count,
    /** HBM, read plus written. */
    copyBytesPerSecond: rate,
    bf16FlopsPerSecond: rate,
    fp8FlopsPerSecond: rate,
    /** The least time of one kernel inside a graph. */
    kernelNs: durationNs,
  })
  .readonly();

const profileSchema = z
  .strictObject({
    schema: z.literal(PROFILE_SCHEMA),
    name: z.string().regex(/^[a-z0-9][a-z0-9.-]{0,63}$/),
    description: z.string().min(1),
    /** Which number comes from where, and which is inference. */
    source: z.string().min(1),
    gpu: z.string().min(1),
    confidential: z.boolean(),
    crossings: z.strictObject({ h2d: byMemory, d2h: byMemory }).readonly(),
    /** Whether the two directions of a context take turns; otherwise each has its own queue. */
    contextSerialises: z.boolean(),
    contexts,
    submission,
    forbidden: z.array(z.enum(FORBIDDEN_FEATURES)).readonly(),
    /** After every so many bytes a channel drains and changes keys. null: not seen. */
    keyRotation: z.strictObject({ everyBytes: count, stallNs: durationNs }).readonly().nullable(),
    /**
     * For which a thread is blocked that allocates a small block of pinned memory for one copy, the
     * first use of it included; absent: for no time that is known.
     */
    pinnedAllocationNs: durationNs.optional(),
    /** How much longer kernels take that are bound by memory; absent: no longer. */
    memoryBoundSlowdown: z.number().min(1).optional(),
    /** Absent: nothing is added. */
    collectives: collectives.optional(),
    /** Measured, with all that encryption adds; absent: as two H200 without it. */
    links: links.optional(),
    roofline,
  })
  .superRefine((profile, context) => {
    if (profile.submission.launchWithWaitNs < profile.submission.launchNs) {
      const path = ['submission', 'launchWithWaitNs'];
      context.addIssue({ code: 'custom', path, message: 'must not be below launchNs' });
    }
    if (profile.collectives !== undefined && profile.links !== undefined) {
      const message = 'is part of "links" already, which are measured: leave one of them out';
      context.addIssue({ code: 'custom', path: ['collectives'], message });
    }
  })
  .readonly();

/** One machine's bridge as measured or published: the law's parameters. All times in ns. */
export type Profile = z.infer<typeof profileSchema>;
export type CrossingCost = z.infer<typeof crossingCost>;
export type MeetingCost = z.infer<typeof meetingCost>;
export type Roofline = z.infer<typeof roofline>;

export type ProfileErrorCode = 'unreadable' | 'wrong-version' | 'invalid';

/** A profile that cannot be used. The message names the path at fault. */
export class ProfileError extends Error {
  override readonly name = 'ProfileError';
  readonly code: ProfileErrorCode;

  constructor(code: ProfileErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Checks a parsed JSON document and freezes it. Unknown keys are refused. Throws ProfileError. */
export function parseProfile(json: unknown): Profile {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new ProfileError('unreadable', 'a profile must be a JSON object');
  }
  const version: unknown = 'schema' in json ? json.schema : undefined;
  if (version !== PROFILE_SCHEMA) {
    const found = typeof version === 'string' ? `"${version.slice(0, 64)}"` : typeof version;
    const message = `profile at "schema": expected "${PROFILE_SCHEMA}", found ${found}`;
    throw new ProfileError('wrong-version', message);
  }
  const result = profileSchema.safeParse(json);
  if (result.success) return result.data;
  const faults = result.error.issues.map((issue) => {
    const path = issue.path.map(String).join('.');
    return `at "${path}": ${issue.message}`;
  });
  const more = faults.length > 3 ? ` (and ${faults.length - 3} more)` : '';
  throw new ProfileError('invalid', `profile ${faults.slice(0, 3).join('; ')}${more}`);
}
