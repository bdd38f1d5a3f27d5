/**
 * What JSON.parse hides and checkpoint headers must not have: a key twice in one object (the last
 * one wins silently) and integers that a double cannot hold. `scanStrict` reads text that
 * JSON.parse has accepted.
 */

/** What the scan found wrong, or undefined. */
export type StrictFinding =
  | { readonly kind: 'duplicate-key'; readonly key: string }
  | { readonly kind: 'bad-number'; readonly text: string };

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** The index after the string that starts at `start`, a quote. */
function stringEnd(text: string, start: number): number {
  let at = start + 1;
  while (text.charCodeAt(at) !== QUOTE) at += text.charCodeAt(at) === BACKSLASH ? 2 : 1;
  return at + 1;
}

function isNumberStart(code: number): boolean {
  return code === 0x2d || (code >= 0x30 && code <= 0x39);
}

const NUMBER = /[-+0-9.eE]+/y;
const PLAIN_INTEGER = /^(?:0|[1-9]\d*)$/;

/**
 * The first duplicate key or number that is not a plain, exactly representable integer from 0.
 * `text` must be valid JSON.
 */
export function scanStrict(text: string): StrictFinding | undefined {
  /** One entry per open bracket: the keys so far of an object, undefined for an array. */
  const open: (Set<string> | undefined)[] = [];
  let expectsKey = false;
  let at = 0;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      const end = stringEnd(text, at);
      const keys = open.at(-1);
      if (expectsKey && keys !== undefined) {
        const key = JSON.parse(text.slice(at, end)) as string;
        if (keys.has(key)) return { kind: 'duplicate-key', key };
        keys.add(key);
        expectsKey = false;
      }
      at = end;
      continue;
    }
    if (isNumberStart(code)) {
      NUMBER.lastIndex = at;
      const number = NUMBER.exec(text)![0];
      if (!PLAIN_INTEGER.test(number) || !Number.isSafeInteger(Number(number))) {
        return { kind: 'bad-number', text: number };
      }
      at += number.length;
      continue;
    }
    if (code === 0x7b) open.push(new Set());
    else if (code === 0x5b) open.push(undefined);
    else if (code === 0x7d || code === 0x5d) open.pop();
    if (code === 0x7b || code === 0x2c) expectsKey = open.at(-1) !== undefined;
    else if (code === 0x5b || code === 0x7d || code === 0x5d) expectsKey = false;
    at += 1;
  }
  return undefined;
}
