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
  kindOf,
  number,
  oneOf,
  onOff,
  repeated,
  secret,
  text,
  time,
} from './kinds.ts';
export {
  type GivenFlags,
  type Origin,
  type Resolved,
  resolveFlags,
  UsageError,
} from './resolve.ts';
