import { type Bytes, fromUtf8 } from '../core/bytes.ts';
import { AttestError, demand } from '../core/errors.ts';

const DOCUMENT_BYTES_MAX = 1024 * 1024;
const DEPTH_MAX = 16;
const ELEMENT_COUNT_MAX = 8192;
const ATTRIBUTE_COUNT_MAX = 64;

const XMLNS = 'http://www.w3.org/2000/xmlns/';
const NOT_A_CHARACTER = /[^\t\n\r\u{20}-\u{D7FF}\u{E000}-\u{FFFD}\u{10000}-\u{10FFFF}]/u;
const DECLARATION = /^<\?xml\s+version=["']1\.0["'](\s+encoding=["'](utf-8|us-ascii)["'])?\s*\?>/i;
// Sticky: each is tried where the reader stands, and all are linear. Names are ASCII, because the
// order of attributes in canonical XML is that of code points, which ASCII makes the plain one.
const NAME = /(?:([A-Za-z_][\w.-]*):)?([A-Za-z_][\w.-]*)/y;
const SPACE = /[ \t\n]+/y;
const EQUALS = /[ \t\n]*=[ \t\n]*/y;
const VALUE = /"([^"<]*)"|'([^'<]*)'/y;
const TEXT = /[^<]+/y;
const ABSOLUTE_URI = /^[A-Za-z][A-Za-z0-9+.-]*:[!-~]*$/;
const NAMED = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" } as const;

interface XmlName {
  /** As written, with its prefix. */
  readonly name: string;
  readonly prefix: string;
  readonly local: string;
  /** Empty: in no namespace. */
  readonly namespace: string;
}

export interface XmlAttribute extends XmlName {
  /** Normalised, references resolved. */
  readonly value: string;
}

export interface XmlElement extends XmlName {
  /** Without declarations of namespaces, in the document's order. */
  readonly attributes: readonly XmlAttribute[];
  /** The namespaces in scope by prefix ('': the default); the parent's own map if none changed. */
  readonly scope: ReadonlyMap<string, string>;
  readonly children: readonly (XmlElement | string)[];
}

/**
 * Reads the XML that signed documents need: elements, attributes, text, the five named entities and
 * character references. Document types, comments, CDATA sections and processing instructions are
 * refused, so nothing external is ever resolved and nothing is read that is not signed as read.
 * Throws AttestError 'malformed', 'trailing-bytes' or 'too-large'; `what` names it in messages.
 */
export function readXml(bytes: Bytes, what: string): XmlElement {
  demand(bytes.length <= DOCUMENT_BYTES_MAX, 'too-large', `${what} has ${bytes.length} bytes`);
  const text = fromUtf8(bytes, what).replace(/\r\n?/g, '\n');
  demand(!NOT_A_CHARACTER.test(text), 'malformed', `${what} holds a character that XML forbids`);
  return new XmlReader(text, what).document();
}

/** The text within an element, which may hold no other elements. */
export function textOf(element: XmlElement, what: string): string {
  let text = '';
  for (const child of element.children) {
    demand(typeof child === 'string', 'malformed', `${what} holds elements within ${element.name}`);
    text += child;
  }
  return text;
}

/** The elements within an element, which may hold no text but white space. */
export function elementsOf(element: XmlElement, what: string): XmlElement[] {
  return element.children.filter((child): child is XmlElement => {
    if (typeof child !== 'string') return true;
    demand(/^[ \t\n\r]*$/.test(child), 'malformed', `${what} holds text within ${element.name}`);
    return false;
  });
}

/** The value of an attribute, or null where there is none. */
export function attributeOf(element: XmlElement, namespace: string, local: string): string | null {
  const named = (one: XmlAttribute) => one.local === local && one.namespace === namespace;
  return element.attributes.find(named)?.value ?? null;
}

function isDeclaration({ prefix, local }: { prefix: string; local: string }): boolean {
  return prefix === 'xmlns' || (prefix === '' && local === 'xmlns');
}

class XmlReader {
  readonly #text: string;
  readonly #what: string;
  #at = 0;
  #elementCount = 0;

  constructor(text: string, what: string) {
    this.#text = text;
    this.#what = what;
  }

  document(): XmlElement {
    this.#at = DECLARATION.exec(this.#text)?.[0].length ?? 0;
    this.#take(SPACE);
    const root = this.#element(new Map(), 1);
    this.#take(SPACE);
    const isAtEnd = this.#at === this.#text.length;
    demand(isAtEnd, 'trailing-bytes', `${this.#what} goes on behind its outermost element`);
    return root;
  }

  #element(outer: ReadonlyMap<string, string>, depth: number): XmlElement {
    this.#demand(depth <= DEPTH_MAX, 'nests too deeply');
    this.#demand(++this.#elementCount <= ELEMENT_COUNT_MAX, 'holds too many elements');
    this.#expect('<', 'an element');
    const isOther = /[!?]/.test(this.#text[this.#at] ?? '');
    this.#demand(!isOther, 'holds a document type, comment, CDATA section or instruction');
    const name = this.#name();
    const written = this.#attributes();
    const scope = this.#scope(written, outer);
    const attributes = this.#resolve(written, scope);
    const element = { ...this.#named(name, scope, true), attributes, scope };
    if (this.#skip('/>')) return { ...element, children: [] };
    this.#expect('>', `the end of the tag ${element.name}`);
    const children = this.#children(scope, depth);
    this.#expect(`</${element.name}`, `the end of ${element.name}`);
    this.#take(SPACE);
    this.#expect('>', `the end of ${element.name}`);
    return { ...element, children };
  }

  #children(scope: ReadonlyMap<string, string>, depth: number): (XmlElement | string)[] {
    const children: (XmlElement | string)[] = [];
    while (!this.#text.startsWith('</', this.#at)) {
      const run = this.#take(TEXT);
      if (run === null) {
        children.push(this.#element(scope, depth + 1));
        continue;
      }
      this.#demand(!run[0].includes(']]>'), 'holds ]]> in its text');
      children.push(this.#unescape(run[0]));
    }
    return children;
  }

  #attributes(): { prefix: string; local: string; value: string }[] {
    const found: { prefix: string; local: string; value: string }[] = [];
    while (this.#take(SPACE) !== null && !/[/>]/.test(this.#text[this.#at] ?? '')) {
      this.#demand(found.length < ATTRIBUTE_COUNT_MAX, 'holds an element of too many attributes');
      const name = this.#name();
      this.#demand(this.#take(EQUALS) !== null, 'holds an attribute without a value');
      const value = this.#take(VALUE);
      this.#demand(value !== null, 'holds an attribute whose value is not quoted');
      const raw = (value![1] ?? value![2]!).replace(/[\t\n]/g, ' ');
      found.push({ ...name, value: this.#unescape(raw) });
    }
    return found;
  }

  #scope(
    written: readonly { prefix: string; local: string; value: string }[],
    outer: ReadonlyMap<string, string>,
  ): ReadonlyMap<string, string> {
    const declarations = written.filter(isDeclaration);
    if (declarations.length === 0) return outer;
    const declared = new Map<string, string>();
    for (const { prefix, local, value } of declarations) {
      const name = prefix === 'xmlns' ? local : '';
      this.#demand(!/^xml/i.test(name), `declares the reserved prefix ${name}`);
      // Canonical XML must refuse relative URIs; only the default namespace can be taken back.
      const isUri = value === '' ? name === '' : ABSOLUTE_URI.test(value) && value !== XMLNS;
      this.#demand(isUri, `declares the prefix "${name}" for what is no absolute URI`);
      this.#demand(!declared.has(name), `declares the prefix "${name}" twice`);
      declared.set(name, value);
    }
    return new Map([...outer, ...declared]);
  }

  #resolve(
    written: readonly { prefix: string; local: string; value: string }[],
    scope: ReadonlyMap<string, string>,
  ): XmlAttribute[] {
    const attributes: XmlAttribute[] = [];
    for (const one of written) {
      if (isDeclaration(one)) continue;
      const { name, prefix, local, namespace } = this.#named(one, scope, false);
      const isTwice = attributes.some((o) => o.local === local && o.namespace === namespace);
      this.#demand(!isTwice, `has the attribute ${name} twice in one element`);
      attributes.push({ name, prefix, local, namespace, value: one.value });
    }
    return attributes;
  }

  #named(
    { prefix, local }: { prefix: string; local: string },
    scope: ReadonlyMap<string, string>,
    isElement: boolean,
  ): XmlName {
    if (prefix === '') {
      return { name: local, prefix, local, namespace: (isElement && scope.get('')) || '' };
    }
    const namespace = scope.get(prefix);
    // Attributes like xml:lang are refused so too: canonical XML would let parts inherit them.
    this.#demand(namespace !== undefined, `uses the prefix ${prefix}, which is not declared`);
    return { name: `${prefix}:${local}`, prefix, local, namespace: namespace! };
  }

  #name(): { prefix: string; local: string } {
    const found = this.#take(NAME);
    this.#demand(found !== null, 'holds something other than an element, attribute or text');
    return { prefix: found![1] ?? '', local: found![2]! };
  }

  #unescape(raw: string): string {
    if (!raw.includes('&')) return raw;
    return raw.replace(/&([^;&]{0,12});?/g, (whole, name: string) => {
      this.#demand(whole.endsWith(';'), 'holds an & that begins no reference');
      if (Object.hasOwn(NAMED, name)) return NAMED[name as keyof typeof NAMED];
      const digits = /^#(?:(\d+)|x([0-9A-Fa-f]+))$/.exec(name);
      this.#demand(digits !== null, 'refers to an entity, which is refused');
      const code = Number.parseInt(digits![1] ?? digits![2]!, digits![1] === undefined ? 16 : 10);
      const isCode = code <= 0x10_ff_ff && !NOT_A_CHARACTER.test(String.fromCodePoint(code));
      this.#demand(isCode, 'refers to a character that XML forbids');
      return String.fromCodePoint(code);
    });
  }

  #take(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text);
    if (found !== null) this.#at += found[0].length;
    return found;
  }

  #skip(text: string): boolean {
    if (!this.#text.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #expect(text: string, where: string): void {
    this.#demand(this.#skip(text), `lacks ${where}`);
  }

  #demand(holds: boolean, problem: string): void {
    if (holds) return;
    throw new AttestError('malformed', `${this.#what} ${problem}, at character ${this.#at}`);
  }
}
