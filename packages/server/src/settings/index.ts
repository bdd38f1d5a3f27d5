// What every command of the program has use for, and nothing heavier: no engine, no YAML.

export {
  environmentOf,
  type Flag,
  type FlagTable,
  flag,
  flagOf,
  optionalArgument,
  requiredArgument,
  type Values,
} from './flags.ts';
export {
  digest,
  integer,
  type Kind,
  kindOf,
  listOf,
  number,
  oneOf,
  onOff,
  repeated,
  secret,
  text,
  texts,
  time,
} from './kinds.ts';
export { type GivenFlags, type Resolved, resolveFlags, UsageError } from './resolve.ts';
