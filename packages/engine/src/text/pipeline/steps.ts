import { ConfigReader, show } from '../../models/config-reader.ts';
import type { ModelError } from '../../models/errors.ts';
import { encodeUtf8 } from '../utf8.ts';

/** What the kinds of steps have in common. */

/** A list of steps under `key`. Throws ModelError. */
export function stepsOf(step: ConfigReader, key: string): ConfigReader[] {
  const list = step.get(key);
  if (!Array.isArray(list)) throw step.error('malformed', key, 'must be a list of steps');
  return list.map((entry, index) => new ConfigReader(entry, `tokenizer.json: ${key}[${index}]`));
}

/** A step that is not implemented: its text would come out other than the model was trained on. */
export function unsupportedStep(step: ConfigReader): ModelError {
  const advice = 'this step of tokenizer.json is not implemented';
  return step.error('unsupported', 'type', `is ${show(step.get('type'))}: ${advice}`);
}

/**
 * Byte-level BPE's printable stand-ins: bytes that print stand for themselves, the others start at
 * U+0100.
 */
const STAND_INS: readonly string[] = (() => {
  let next = 0x100;
  return Array.from({ length: 0x100 }, (_, byte) => {
    const prints = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCharCode(prints ? byte : next++);
  });
})();

/** The byte that each stand-in stands for. */
export const BYTE_OF: ReadonlyMap<string, number> = new Map(
  STAND_INS.map((character, byte) => [character, byte]),
);

/** The text's bytes, each as its stand-in. */
export function byteLevelText(text: string): string {
  let result = '';
  for (const byte of encodeUtf8(text)) result += STAND_INS[byte]!;
  return result;
}
