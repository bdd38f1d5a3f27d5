import { Dict, type Value } from '../../text/jinja/values.ts';
import { GrammarError, type GrammarErrorCode } from '../errors.ts';

/** A JSON value as it was read: objects in order, integers of any size. */
export type Json = Value;

/** One schema of a document: an object of keywords, or true or false. */
export interface Schema {
  readonly value: Dict | boolean;
  /** Where it is in the document, as a JSON pointer; "" is the whole. */
  readonly pointer: string;
  /** In order of appearance: what tells schemas apart. */
  readonly id: number;
}

/** Schemas and what is in them, counted as values. Those of tools have some hundreds. */
const MAX_SCHEMA_VALUES = 200_000;
const MAX_SCHEMA_DEPTH = 128;

/** Refuses a schema; the message says which keyword, and where. */
export function refuse(code: GrammarErrorCode, pointer: string, why: string): never {
  throw new GrammarError(code, `the JSON schema ${why} (at ${shown(pointer)})`);
}

const MAX_SHOWN = 200;

/** As a URI fragment. Pointers are made of clients' own keys: not without bounds. */
function shown(pointer: string): string {
  const text = JSON.stringify(`#${pointer}`).slice(1, -1);
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}...` : text;
}

export function within(pointer: string, ...keys: readonly (string | number)[]): string {
  const escaped = (key: string | number) => String(key).replace(/~/g, '~0').replace(/\//g, '~1');
  return [pointer, ...keys.map(escaped)].join('/');
}

/** What values of these keywords are is data, in which nothing is a schema. */
const DATA = new Set(['enum', 'const', 'default', 'examples', 'example']);

/** A schema that came from outside, measured before anything else is done with it. */
export class SchemaDocument {
  readonly root: Schema;
  readonly #schemas = new Map<string, Schema>();
  /** What can be referred to, by absolute URI. */
  readonly #named = new Map<string, { readonly value: Json; readonly pointer: string }>();
  /** Base URI of what is at a pointer, where it is set. */
  readonly #bases = new Map<string, string>();

  /** Throws GrammarError 'too-large' and 'syntax'. */
  constructor(value: Json) {
    this.#survey(value);
    this.root = this.schemaAt(value, '');
  }

  /** The schema that `value`, which is at `pointer`, is. Throws GrammarError 'syntax'. */
  schemaAt(value: Json | undefined, pointer: string): Schema {
    const found = this.#schemas.get(pointer);
    if (found !== undefined) return found;
    if (typeof value !== 'boolean' && !(value instanceof Dict)) {
      refuse('syntax', pointer, 'needs a schema here: an object, true or false');
    }
    const schema: Schema = { value, pointer, id: this.#schemas.size };
    this.#schemas.set(pointer, schema);
    return schema;
  }

  /** What `reference`, a keyword's value, in `from` refers to. Throws GrammarError. */
  resolve(reference: Json, from: Schema, keyword: string): Schema {
    if (typeof reference !== 'string') {
      refuse('syntax', within(from.pointer, keyword), `needs a string as ${keyword}`);
    }
    const at = within(from.pointer, keyword);
    // Authors also point from an inner resource at the whole document's definitions.
    for (const base of new Set([this.#baseOf(from.pointer), ROOT_BASE])) {
      const found = this.#find(reference, base);
      if (found !== undefined) return this.schemaAt(found.value, found.pointer);
    }
    return refuse(
      'unsupported',
      at,
      `refers by ${keyword} to what is not in it: only its own parts can be referred to`,
    );
  }

  #find(reference: string, base: string) {
    const uri = absolute(reference, base);
    if (uri === undefined) return undefined;
    const [resource = '', fragment = ''] = splitFragment(uri);
    const exact = this.#named.get(uri) ?? (fragment === '' ? this.#named.get(resource) : undefined);
    if (exact !== undefined) return exact;
    if (!fragment.startsWith('/')) return undefined;
    const root = this.#named.get(resource);
    return root && pointed(root.value, root.pointer, fragment);
  }

  #baseOf(pointer: string): string {
    for (let at = pointer; ; at = at.slice(0, at.lastIndexOf('/'))) {
      const base = this.#bases.get(at);
      if (base !== undefined) return base;
      if (at === '') return ROOT_BASE;
    }
  }

  /** Finds names and anchors, and refuses what is too large. Without recursion. */
  #survey(root: Json): void {
    this.#named.set(ROOT_BASE, { value: root, pointer: '' });
    const open: Place[] = [{ value: root, pointer: '', depth: 0, base: ROOT_BASE, isData: false }];
    let values = 0;
    for (let place = open.pop(); place !== undefined; place = open.pop()) {
      values += 1;
      if (values > MAX_SCHEMA_VALUES) {
        refuse('too-large', '', `has more than ${MAX_SCHEMA_VALUES} values`);
      }
      if (place.depth > MAX_SCHEMA_DEPTH) {
        refuse('too-large', place.pointer, `is nested deeper than ${MAX_SCHEMA_DEPTH} levels`);
      }
      if (place.value instanceof Dict) {
        const base = place.isData ? place.base : this.#nameObject(place, place.value);
        const areKeywords = !place.isData && !place.pointer.endsWith('/properties');
        for (const [key, value] of entriesOf(place.value)) {
          const isData = place.isData || (areKeywords && DATA.has(key));
          open.push({ ...inner(place, key), value, base, isData });
        }
      } else if (Array.isArray(place.value)) {
        place.value.forEach((value, at) => {
          open.push({ ...inner(place, at), value });
        });
      }
    }
  }

  /** Enters its names. The base URI of what is in it. */
  #nameObject({ pointer, base }: Place, value: Dict): string {
    const id = value.get('$id') ?? value.get('id');
    let own = base;
    if (typeof id === 'string') {
      const uri = absolute(id, base);
      const isAnchor = id.startsWith('#');
      if (uri !== undefined)
        this.#name(isAnchor ? uri : (splitFragment(uri)[0] ?? ''), value, pointer);
      if (uri !== undefined && !isAnchor) {
        own = splitFragment(uri)[0] ?? '';
        this.#bases.set(pointer, own);
      }
    }
    for (const keyword of ['$anchor', '$dynamicAnchor']) {
      const anchor = value.get(keyword);
      if (typeof anchor === 'string') this.#name(`${own}#${anchor}`, value, pointer);
    }
    return own;
  }

  #name(uri: string, value: Json, pointer: string): void {
    if (!this.#named.has(uri)) this.#named.set(uri, { value, pointer });
  }
}

interface Place {
  readonly value: Json;
  readonly pointer: string;
  readonly depth: number;
  readonly base: string;
  readonly isData: boolean;
}

function inner(place: Place, key: string | number): Place {
  return { ...place, pointer: within(place.pointer, key), depth: place.depth + 1 };
}

/** The base of a document that names itself nowhere. */
const ROOT_BASE = 'schema:///';

function absolute(reference: string, base: string): string | undefined {
  if (reference.startsWith('#')) return reference === '#' ? base : base + reference;
  return URL.canParse(reference, base) ? new URL(reference, base).href : undefined;
}

function splitFragment(uri: string): string[] {
  const at = uri.indexOf('#');
  return at < 0 ? [uri, ''] : [uri.slice(0, at), uri.slice(at + 1)];
}

function pointed(root: Json, pointer: string, fragment: string) {
  let value: Json | undefined = root;
  let at = pointer;
  for (const part of fragment.slice(1).split('/')) {
    const key = unescaped(part);
    if (value instanceof Dict) value = value.get(key);
    else if (Array.isArray(value) && /^\d+$/.test(key)) value = value[Number(key)];
    else return undefined;
    if (value === undefined) return undefined;
    at = within(at, key);
  }
  return { value, pointer: at };
}

/** A part of a pointer in a fragment. */
function unescaped(part: string): string {
  let key = part;
  try {
    key = decodeURIComponent(part);
  } catch {
    // A percent sign that escapes nothing is one.
  }
  return key.replace(/~1/g, '/').replace(/~0/g, '~');
}

/** The entries of an object of a JSON text, whose keys are strings. */
export function* entriesOf(value: Dict): Iterable<readonly [string, Json]> {
  for (const [key, child] of value.entries()) yield [String(key), child];
}
