// What threads need of this package, and no more: each loads its modules anew, and the checks of
// profiles take longer to load than all else that a thread has.
export type { Clock } from './clock.ts';
export type { Crossing } from './crossing.ts';
export { InvariantError, invariant } from './invariant.ts';
export type { CrossingSchedule, Law } from './law.ts';
export type { Profile } from './profile.ts';
export { profileLaw } from './profile-law.ts';
