export { type Clock, wakeAt } from './clock.ts';
export {
  type Crossing,
  type CrossingRecord,
  type Direction,
  type HostMemoryKind,
  PURPOSES,
  type Purpose,
  SHARED_TENANT,
} from './crossing.ts';
export { InvariantError, invariant } from './invariant.ts';
export {
  all,
  drainAfter,
  first,
  Later,
  noteOthers,
  othersMayRun,
  type Routine,
  run,
  until,
} from './later.ts';
export {
  type ChannelState,
  type CrossingSchedule,
  FRESH_CHANNEL,
  type Law,
  type Situation,
} from './law.ts';
export {
  ACCOUNTS,
  type Account,
  Ledger,
  type LedgerOptions,
  type LedgerSnapshot,
  OTHERS,
} from './ledger.ts';
export {
  type CrossingCost,
  FORBIDDEN_FEATURES,
  type ForbiddenFeature,
  type MeetingCost,
  PROFILE_SCHEMA,
  type Profile,
  ProfileError,
  type ProfileErrorCode,
  parseProfile,
  type Roofline,
} from './profile.ts';
export { aloneNs, meetingNs, profileLaw } from './profile-law.ts';
export {
  isReferenceProfileName,
  REFERENCE_PROFILE_NAMES,
  type ReferenceProfileName,
  referenceProfile,
} from './reference-profiles.ts';
export {
  CHUNK_BYTES_MIN,
  chunkBytesWithin,
  createScheduler,
  isUrgent,
  type SchedulerAction,
  type SchedulerEvent,
  type SchedulerOptions,
  type SchedulerState,
  step,
  takeLane,
} from './scheduler.ts';
