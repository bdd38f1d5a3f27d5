import { z } from '@hono/zod-openapi';
import { HostFacts } from './fleet.ts';
import { Digest, Epoch, Id, Name, Sequence, Text } from './scalars.ts';

/*
 * What control and a host's agent say to each other. Both say how things shall be or are, never
 * what to do next: a message that is lost, late or there twice changes nothing, because a newer one
 * says everything again.
 */

/** One replica as it shall be on a host. Data only: `image` is a name in the host's catalogue. */
export const DesiredReplica = z.strictObject({
  replica: Id,
  epoch: Epoch,
  tenant: Name.nullable(),
  partition: z.int(),
  modules: z.array(z.int().min(1).max(16)).max(16),
  image: Name,
  /** What it calls its model to clients. */
  models: z.array(z.string().max(256)).min(1).max(16),
  /** Bearer key that it shall take. */
  credential: z.string().max(256),
  inFlightMax: z.int().min(1),
  /** Ask it for evidence under this nonce; null: none is due. */
  challenge: Digest.nullable(),
  /** To be handed to the guest, which alone can open it; null: not given. */
  sealedKey: z.string().max(8192).nullable(),
});

/** Everything that shall be on a host: what is not in it shall not be. */
export const HostDesired = z.strictObject({
  host: Name,
  /** Of the control that leads. An agent refuses a lower one than it has seen. */
  epoch: Epoch,
  /** Within the epoch: refused unless it is higher. */
  sequence: Sequence,
  replicas: z.array(DesiredReplica).max(64),
});

export const ObservedReplica = z.strictObject({
  replica: Id,
  epoch: Epoch,
  /** `failed`: it ended or cannot start. What is not named at all has left nothing behind. */
  state: z.enum(['preparing', 'booting', 'running', 'stopping', 'failed']),
  /** What it is at, for people. */
  progress: Text,
  address: z.string().max(256).nullable(),
  /** The answer to the last challenge: the report as the guest gave it. */
  evidence: z.strictObject({ nonce: Digest, report: z.string().max(2_000_000) }).nullable(),
  /** The entry of the host's fabric log that activated it. */
  logIndex: Sequence.nullable(),
  /** By which that log calls it; null: it has no fabric. */
  tenancyEpoch: Epoch.nullable().default(null),
});

export const HostObservation = z.strictObject({
  host: Name,
  bootId: z.string().min(1).max(128),
  /** Of this agent's start, so that late messages of an earlier one are told apart. */
  startedMs: z.int().min(0),
  sequence: Sequence,
  /** The last command that it has taken. */
  appliedEpoch: Epoch,
  appliedSequence: Sequence,
  facts: HostFacts,
  /** All that are there, also those that shall not be. */
  replicas: z.array(ObservedReplica).max(64),
  checkpoint: z.string().max(4096).nullable(),
});

export const JoinRequest = z.strictObject({
  token: z.string().max(512),
  host: Name,
  /** A certificate request (PKCS #10) in PEM: its key never leaves the host. */
  csr: z.string().max(8192),
});

export const JoinAnswer = z.strictObject({
  certificate: z.string().max(16_384),
  /** Of control: whom the agent trusts from then on. */
  authority: z.string().max(16_384),
});

/** For the key that the agent shows: another one's is refused. */
export const RenewRequest = z.strictObject({ csr: z.string().max(8192) });

export type DesiredReplica = Readonly<z.output<typeof DesiredReplica>>;
export type HostDesired = Readonly<z.output<typeof HostDesired>>;
export type ObservedReplica = Readonly<z.output<typeof ObservedReplica>>;
export type HostObservation = Readonly<z.output<typeof HostObservation>>;
export type JoinRequest = Readonly<z.output<typeof JoinRequest>>;
export type JoinAnswer = Readonly<z.output<typeof JoinAnswer>>;
