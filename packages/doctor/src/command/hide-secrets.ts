import { quoteStyleOf, quoteWord, splitWords } from '@bridgekeeper/server';
import { parseJson } from './queries.ts';

/** What stands where a secret stood. */
const HIDDEN = '[hidden]';

const SECRET_NAME = /(?:key|token|passwd|password|secret|credentials?)$|api[-_]?key/i;
const SECRET_TEXT = /\b(?:hf_|sk-|glpat-|gh[pousr]_|nvapi-)[\w-]{8,}/g;
/** A key of broken JSON that may hold a secret. */
const SECRET_KEY = /(?:key|token|passwd|password|secret|credentials?)["']?\s*[:=]/i;
const URL_CREDENTIALS = /(:\/\/)[^\s/@]+@/g;

export interface Hidden {
  readonly text: string;
  /** How many secrets were hidden. */
  readonly count: number;
}

/** A command fit to be shown: values of keys, tokens and passwords are replaced. */
export function hideSecrets(source: string): Hidden {
  const command = splitWords(source);
  const hider = new Hider();
  let text = '';
  let from = 0;
  let secretOption = false;
  for (const word of command.words) {
    const isOption = /^--?[A-Za-z]/.test(word.text);
    // An option may take several values: all of them up to the next option.
    const shown = secretOption && !isOption ? hider.hide() : hider.word(word.text);
    if (isOption) secretOption = !word.text.includes('=') && SECRET_NAME.test(word.text);
    const raw = source.slice(word.start, word.end);
    // A quoted assignment would be none: the mark needs no quotes for itself.
    const plain = /^[\w@%+=:,./[\]-]+$/.test(shown);
    text += source.slice(from, word.start);
    text +=
      shown === word.text ? raw : plain ? shown : quoteWord(shown, quoteStyleOf(command, word));
    from = word.end;
  }
  return { text: text + source.slice(from), count: hider.count };
}

class Hider {
  count = 0;

  hide(): string {
    this.count++;
    return HIDDEN;
  }

  /** `NAME=value` by its name, JSON by its keys, anything else by its looks. */
  word(text: string): string {
    const named = /^(-*([A-Za-z_][\w.-]*))=(.*)$/s.exec(text);
    if (named !== null) {
      const [, name, bare, value] = named;
      return `${name}=${SECRET_NAME.test(bare!) && value !== '' ? this.hide() : this.word(value!)}`;
    }
    const looksLikeJson = /^\s*[{[]/.test(text);
    const json = looksLikeJson ? parseJson(text) : undefined;
    if (looksLikeJson && json === undefined && SECRET_KEY.test(text)) return this.hide();
    if (typeof json === 'object' && json !== null) {
      const before = this.count;
      const shown = JSON.stringify(this.#json(json));
      return this.count === before ? text : shown;
    }
    return text
      .replace(SECRET_TEXT, () => this.hide())
      .replace(URL_CREDENTIALS, (_, scheme: string) => `${scheme}${this.hide()}@`);
  }

  #json(value: unknown): unknown {
    if (typeof value === 'string') return this.word(value);
    if (typeof value !== 'object' || value === null) return value;
    if (Array.isArray(value)) return value.map((each) => this.#json(each));
    const entries = Object.entries(value).map(([key, each]) => {
      const isSecret = SECRET_NAME.test(key) && typeof each === 'string';
      return [key, isSecret ? this.hide() : this.#json(each)];
    });
    return Object.fromEntries(entries);
  }
}
