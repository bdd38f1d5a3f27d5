import {
  flagOf,
  SETTINGS,
  UsageError,
  VLLM_ALIASES,
  VLLM_FLAGS,
  type VllmFlag,
} from '@bridgekeeper/server';
import type { Translation } from './command.ts';

const OWN = new Map(Object.entries(SETTINGS).map(([name, { kind }]) => [flagOf(name), kind]));

/**
 * Words of `vllm serve` as words of ours: underscores, `--model`, several words behind one flag,
 * and flags that change nothing here, each of which is remarked on. Where the model stands without
 * its flag, several words may follow a flag only behind it. Throws UsageError for what cannot be
 * had. What neither of us knows is left as it is.
 */
export function fromVllm(words: readonly string[]): Translation {
  const translated: string[] = [];
  const remarks = new Map<string, string>();
  const models: string[] = [];
  const hasModelFlag = words.some((word) => /^--model(=|$)/.test(word));
  let at = 0;
  /** The next words that can be no flags, up to `most`; `least` are taken whatever they are. */
  const following = (most: number, least = 1): string[] => {
    const first = at;
    const taken = () => at - first;
    while (at < words.length && taken() < most && (taken() < least || !isFlag(words[at]!))) at++;
    return words.slice(first, at);
  };
  while (at < words.length) {
    const word = words[at++]!;
    if (word === '--') {
      models.push(...words.slice(at));
      break;
    }
    if (!isFlag(word)) {
      models.push(word);
      continue;
    }
    const { name, inline } = readFlag(word);
    const kind = OWN.get(name);
    if (kind?.isSwitch || (kind === undefined && OWN.get(positive(name))?.isSwitch)) {
      translated.push(inline === undefined ? `--${name}` : switched(name, inline));
    } else if (kind !== undefined) {
      const severalMay = kind.list === true && (hasModelFlag || models.length > 0);
      const most = severalMay ? Number.POSITIVE_INFINITY : 1;
      const given = inline === undefined ? following(most) : [inline];
      const values = name === 'allowed-origins' ? given.flatMap(jsonList) : given;
      if (name === 'model') models.push(...values);
      else if (values.length === 0) translated.push(`--${name}`);
      else translated.push(...values.flatMap((value) => [`--${name}`, value]));
    } else {
      const flag = vllmFlag(name);
      if (flag === undefined) {
        translated.push(word);
        continue;
      }
      const takes = { none: 0, one: 1, maybe: 1, several: Number.POSITIVE_INFINITY }[flag.takes];
      const least = flag.takes === 'maybe' ? 0 : 1;
      const values = inline === undefined ? following(takes, least) : [inline];
      remarks.set(name, remarkOn(name, flag, values));
      translated.push(...(flag.becomes ?? []));
    }
  }
  if (models.length > 1) {
    throw new UsageError('bad-combination', `${models.join(' ')}: give one model`);
  }
  // Behind all flags: none of them takes it for one of its values.
  if (models.length > 0) translated.push('--', ...models);
  return { words: translated, remarks: [...remarks.values()] };
}

/** vLLM takes origins as a list of JSON, ours as words. */
function jsonList(word: string): readonly string[] {
  if (!word.startsWith('[')) return [word];
  try {
    const list: unknown = JSON.parse(word);
    if (Array.isArray(list) && list.every((each) => typeof each === 'string')) return list;
  } catch {
    // Whatever else it is, it is no origin.
  }
  throw new UsageError('bad-value', '--allowed-origins: must be origins, or a JSON list of them');
}

function isFlag(word: string): boolean {
  return /^-[^\d.-]|^--[^-]/.test(word);
}

/** `--max_model_len=5` and `-tp` by their names. */
function readFlag(word: string): { readonly name: string; readonly inline: string | undefined } {
  const [, flag = word, inline] = /^([^=]*)=([\s\S]*)$/.exec(word) ?? [];
  // -O3
  const level = /^-O(\d)$/.exec(flag)?.[1];
  if (level !== undefined) return { name: VLLM_ALIASES['-O']!, inline: level };
  const alias = VLLM_ALIASES[flag];
  return { name: alias ?? flag.replace(/^--/, '').replaceAll('_', '-'), inline };
}

function positive(name: string): string {
  return name.replace(/^no-/, '');
}

/** `--json=true` */
function switched(name: string, value: string): string {
  const on = SETTINGS.json.kind.parse(value);
  if (on === undefined) {
    throw new UsageError('bad-value', `--${name}: must be true or false, or stand alone`);
  }
  return on ? `--${name}` : `--no-${name}`;
}

/** A flag of vLLM's alone; settings within one, as in `-cc.mode`, are the flag's. */
function vllmFlag(name: string): VllmFlag | undefined {
  const whole = name.split('.')[0]!;
  if (whole !== name && OWN.has(whole)) {
    const message = `--${name}: is not supported: give --${whole} as one JSON document`;
    throw new UsageError('unsupported-flag', message);
  }
  const known = (key: string) => (Object.hasOwn(VLLM_FLAGS, key) ? VLLM_FLAGS[key] : undefined);
  const flag = known(VLLM_ALIASES[whole] ?? whole);
  if (flag !== undefined) return flag;
  const negated = known(positive(whole));
  if (negated?.takes !== 'none' || whole === positive(whole)) return undefined;
  const why = negated.verdict === 'refused' ? 'it is off here anyway' : negated.why;
  return { takes: 'none', verdict: 'harmless', why };
}

function remarkOn(name: string, flag: VllmFlag, values: readonly string[]): string {
  if (flag.verdict === 'refused') {
    throw new UsageError('unsupported-flag', `--${name}: is not supported: ${flag.why}`);
  }
  if (flag.only !== undefined && !flag.only.includes(values[0] ?? '')) {
    const accepted = flag.only.join(' or ');
    const message = `--${name}: must be ${accepted}, or absent: ${flag.why}`;
    throw new UsageError('unsupported-flag', message);
  }
  return `--${name} changes nothing here: ${flag.why}`;
}
