import type { Kind } from './kinds.ts';

/** One flag of a command. What it is called follows from its name in the table: see `flagOf`. */
export interface Flag<V> {
  readonly kind: Kind<V>;
  /** undefined: the command decides, or does without. */
  readonly default: V;
  /** The default in words, where its value is this machine's own affair. */
  readonly defaultName?: string;
  readonly help: string;
  /** It stands without dashes, in the order of the table. */
  readonly argument?: 'optional' | 'required';
  /** It may also come from its environment variable and from the configuration file. */
  readonly isSetting?: true;
  /** Other programs' variables that say the same; ours goes before them. */
  readonly alsoFrom?: readonly string[];
}

/** What a command can be told, by name in camel case. */
export type FlagTable = Readonly<Record<string, Flag<unknown>>>;

export type Values<F extends FlagTable> = {
  readonly [N in keyof F]: F[N] extends Flag<infer V> ? V : never;
};

export function flag<T>(kind: Kind<T>, fallback: T, help: string): Flag<T>;
export function flag<T>(kind: Kind<T>, fallback: undefined, help: string): Flag<T | undefined>;
export function flag<T>(kind: Kind<T>, fallback: T | undefined, help: string) {
  return { kind, default: fallback, help };
}

export function optionalArgument<T>(kind: Kind<T>, help: string): Flag<T | undefined> {
  return { ...flag(kind, undefined, help), argument: 'optional' };
}

/** Without a default that anything could see: its command does not run without it. */
export function requiredArgument<T>(kind: Kind<T>, help: string): Flag<T> {
  return { ...flag(kind, undefined as T, help), argument: 'required' };
}

/**
 * `maxModelLen` -> `max-model-len`: the flag without dashes, and the key in a configuration file.
 */
export function flagOf(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** `maxModelLen` -> `BRIDGEKEEPER_MAX_MODEL_LEN`. */
export function environmentOf(name: string): string {
  return `BRIDGEKEEPER_${flagOf(name).replaceAll('-', '_').toUpperCase()}`;
}
