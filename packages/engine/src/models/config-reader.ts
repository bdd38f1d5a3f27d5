import { ModelError, type ModelErrorCode } from './errors.ts';

/** A JSON object and where it stands, for messages: `config.json`, `config.json: rope_scaling`. */
export class ConfigReader {
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #where: string;

  constructor(value: unknown, where: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new ModelError('malformed', `${where} must be a JSON object`);
    }
    this.#values = value as Record<string, unknown>;
    this.#where = where;
  }

  /**
   * The value as it stands; null and absent are both undefined, as in Hugging Face's
   * configurations.
   */
  get(key: string): unknown {
    return Object.hasOwn(this.#values, key) ? (this.#values[key] ?? undefined) : undefined;
  }

  /** Whether the key is there, be it null. */
  has(key: string): boolean {
    return Object.hasOwn(this.#values, key);
  }

  keys(): readonly string[] {
    return Object.keys(this.#values);
  }

  error(code: ModelErrorCode, key: string, message: string): ModelError {
    return new ModelError(code, `${this.#where}: "${key}" ${message}`);
  }

  object(key: string): ConfigReader | undefined {
    const value = this.get(key);
    return value === undefined ? undefined : new ConfigReader(value, `${this.#where}: "${key}"`);
  }

  /**
   * A whole number of at least `minimum`; `fallback` when absent, or an error when there is none.
   */
  integer(key: string, minimum: number, fallback?: number): number {
    const value = this.get(key) ?? fallback;
    if (value === undefined) throw this.error('malformed', key, 'is missing: a whole number');
    if (
      !Number.isInteger(value) ||
      (value as number) < minimum ||
      (value as number) > 2 ** 31 - 1
    ) {
      const range = `a whole number from ${minimum} to 2147483647`;
      throw this.error('malformed', key, `is ${show(value)}; it must be ${range}`);
    }
    return value as number;
  }

  /** A finite number above zero; `fallback` when absent, or an error when there is none. */
  positive(key: string, fallback?: number): number {
    const value = this.get(key) ?? fallback;
    if (value === undefined) throw this.error('malformed', key, 'is missing: a number above 0');
    if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) {
      throw this.error('malformed', key, `is ${show(value)}; it must be a number above 0`);
    }
    return value;
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.get(key) ?? fallback;
    if (typeof value !== 'boolean') {
      throw this.error('malformed', key, `is ${show(value)}; it must be true or false`);
    }
    return value;
  }

  /** A string; `fallback` when absent, or an error when there is none. */
  text(key: string, fallback?: string): string {
    const value = this.get(key) ?? fallback;
    if (typeof value === 'string') return value;
    throw this.error('malformed', key, `is ${show(value)}; it must be a text`);
  }

  /** One of `supported`, or an `unsupported` error that lists them. */
  choice<Value extends string>(
    key: string,
    supported: readonly Value[],
    fallback?: Value,
  ): Value | undefined {
    const value = this.get(key) ?? fallback;
    if (value === undefined) return undefined;
    const match = supported.find((candidate) => candidate === value);
    if (match === undefined) {
      const list = supported.join(', ');
      throw this.error('unsupported', key, `is ${show(value)}; supported: ${list}`);
    }
    return match;
  }
}

/** A short rendering of a value for a message. */
export function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
}
