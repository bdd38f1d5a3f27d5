import { z } from 'zod';
import type { AttestErrorCode } from '../core/errors.ts';

/**
 * Families of subjects, as they stand before the number of a claim's subject: `GPU-0`, `CPU`.
 * Requirements are per family.
 */
const SUBJECT_FAMILIES = [
  'gpu',
  'switch',
  'machine',
  'cpu',
  'app',
  'rim',
  'token',
  'server',
  'receipt',
  'receipts',
] as const;
export type SubjectFamily = (typeof SUBJECT_FAMILIES)[number];

/**
 * What a policy may put up with. A signature that does not hold, a root that is not pinned or a
 * debug mode is none of it: no policy can make evidence out of what proves nothing.
 */
export const TOLERABLE_CODES = [
  'certificate-expired',
  'collateral-expired',
  'revocation-unknown',
  'reference-missing',
  'tcb-refused',
  'mode-refused',
  'set-incomplete',
  'not-available',
] as const satisfies readonly AttestErrorCode[];

const UNSIGNED_VOUCHERS = ['guest-observed', 'operator-asserted'] as const;

const scalar = z.union([z.string().max(4096), z.number(), z.boolean(), z.null()]);
const because = z.string().min(1).max(500);

const requirement = z
  .strictObject({
    /** The claim's value is one of these; of no values: the policy has still to be told. */
    oneOf: z.array(scalar).max(1000).optional(),
    /** The claim's value, a list, holds all of these; of no values: as above. */
    includes: z.array(z.string().max(4096)).max(1000).optional(),
    /** The claim's value is at least this; versions such as `96.00.5E.00.01` part by part. */
    atLeast: z.union([z.number(), z.string().min(1).max(100)]).optional(),
    /** Unsigned vouchers that are believed here. The result says so. */
    believe: z.array(z.enum(UNSIGNED_VOUCHERS)).min(1).optional(),
  })
  .readonly();
export type Requirement = z.infer<typeof requirement>;

const toleration = z
  .strictObject({
    kind: z.string(),
    codes: z.array(z.enum(TOLERABLE_CODES)).min(1),
    /** Only claims with one of these values. */
    values: z.array(scalar).min(1).max(1000).optional(),
    /** Shown with every result it bears on. */
    because,
  })
  .readonly();
export type Toleration = z.infer<typeof toleration>;

const presence = z
  .strictObject({
    atLeast: z.int().min(0).max(1024).default(0),
    atMost: z.int().min(0).max(1024).default(1024),
  })
  .readonly();

const securityVersion = z.int().min(0).max(255);

/** AMD signs no list of good firmware: whoever trusts an SEV-SNP guest says what is the least. */
const snpTcb = z
  .strictObject({
    fmc: securityVersion.default(0),
    bootloader: securityVersion,
    tee: securityVersion,
    snp: securityVersion,
    microcode: securityVersion,
  })
  .readonly();

/** What turns claims into a verdict. */
export const policySchema = z
  .strictObject({
    version: z.literal(1),
    name: z.string().min(1).max(100),
    purpose: z.string().max(500).default(''),
    /** How many subjects of each family there must be. */
    present: z.partialRecord(z.enum(SUBJECT_FAMILIES), presence).default({}),
    /** By family, the claims that each of its subjects must have, verified. */
    require: z
      .partialRecord(z.enum(SUBJECT_FAMILIES), z.record(z.string(), requirement))
      .default({}),
    /** Refusals that do not refuse the whole. */
    tolerate: z.array(toleration).max(200).default([]),
    /** null: the firmware of an SEV-SNP host is not compared, so `cpu.tcb` stays unverified. */
    snpMinimumTcb: snpTcb.nullable().default(null),
  })
  .readonly();
export type Policy = z.infer<typeof policySchema>;
