import { readPrivateFile } from '../settings/private-file.ts';
import { UsageError } from '../settings/resolve.ts';

/** What one key may take of the server; undefined: no limit of its own. */
export interface KeyLimits {
  /** Its share of the engine where several keys want more than there is. */
  readonly weight: number;
  /** Rows that it may hold at once; more of its requests wait. */
  readonly maxRunning: number | undefined;
  readonly maxWaiting: number | undefined;
  /** Of prompts and answers. */
  readonly tokensPerMinute: number | undefined;
  readonly requestsPerMinute?: number | undefined;
}

export interface ApiKey {
  readonly key: string;
  readonly limits: KeyLimits;
}

const MAX_BYTES = 2 ** 20;

const LIMITS = {
  weight: { name: 'weight', min: 0.001, max: 1000, whole: false },
  'max-running': { name: 'maxRunning', min: 1, max: 65536, whole: true },
  'max-waiting': { name: 'maxWaiting', min: 0, max: 1e6, whole: true },
  'requests-per-minute': { name: 'requestsPerMinute', min: 1, max: 1e9, whole: true },
  'tokens-per-minute': { name: 'tokensPerMinute', min: 1, max: 1e12, whole: true },
} as const;

/**
 * Reads a file of keys: one a line, then its limits as `name=value`, as in
 * `sk-abc weight=2 max-waiting=10`; `#` begins a comment. What a line leaves open is as in
 * `defaults`. Throws UsageError, whose message has the line's number and nothing of a key.
 */
export async function readKeyFile(path: string, defaults: KeyLimits): Promise<readonly ApiKey[]> {
  const text = (await readPrivateFile(path, 'the file of keys', MAX_BYTES)).toString('utf8');
  const keys = new Map<string, ApiKey>();
  for (const [at, line] of text.split('\n').entries()) {
    const [key, ...limits] = line
      .replace(/(^|\s)#.*/, '')
      .split(/\s+/)
      .filter(Boolean);
    if (key === undefined) continue;
    const where = `line ${at + 1} of ${path}`;
    if (!/^[\x21-\x7e]+$/.test(key)) {
      throw new UsageError('bad-value', `${where}: a key has printable ASCII characters only`);
    }
    if (keys.has(key)) throw new UsageError('bad-value', `${where}: this key was there before`);
    keys.set(key, { key, limits: { ...defaults, ...readLimits(limits, where) } });
  }
  if (keys.size > 0) return [...keys.values()];
  throw new UsageError('bad-file', `the file of keys ${path} has no key: nobody could call`);
}

function readLimits(words: readonly string[], where: string): Partial<KeyLimits> {
  const limits: Record<string, number> = {};
  for (const word of words) {
    const [, name = '', text = ''] = /^([a-z-]+)=([\d.]+)$/.exec(word) ?? [];
    const limit = Object.hasOwn(LIMITS, name) ? LIMITS[name as keyof typeof LIMITS] : undefined;
    if (limit === undefined) {
      const known = Object.keys(LIMITS).join('=, ');
      throw new UsageError('bad-value', `${where}: after the key come ${known}= with a number`);
    }
    const value = Number(text);
    const isGood = value >= limit.min && value <= limit.max;
    if (!isGood || (limit.whole && !Number.isInteger(value))) {
      const what = `${limit.whole ? 'an integer' : 'a number'} from ${limit.min} to ${limit.max}`;
      throw new UsageError('bad-value', `${where}: ${name} must be ${what}`);
    }
    limits[limit.name] = value;
  }
  return limits;
}
