import { type Bytes, utf8 } from '../core/bytes.ts';
import type { XmlAttribute, XmlElement } from './xml.ts';

const NOTHING: ReadonlyMap<string, string> = new Map();
const TEXT_ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '\r': '&#xD;',
};
const VALUE_ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '"': '&quot;',
  '\t': '&#x9;',
  '\n': '&#xA;',
  '\r': '&#xD;',
};

/**
 * Canonical XML 1.1, inclusive, without comments, of an element and all within it, `without` one
 * element (what the enveloped-signature transform leaves out) where that is not null. The reader
 * admits no attributes in the namespace of XML itself, so none can be inherited by a part.
 */
export function canonicalXml(element: XmlElement, without: XmlElement | null): Bytes {
  const parts: string[] = [];
  render(element, NOTHING, without, parts);
  return utf8(parts.join(''));
}

function render(
  element: XmlElement,
  outer: ReadonlyMap<string, string>,
  without: XmlElement | null,
  parts: string[],
): void {
  parts.push('<', element.name);
  if (element.scope !== outer) renderNamespaces(element.scope, outer, parts);
  for (const { name, value } of element.attributes.toSorted(byNamespaceAndName)) {
    parts.push(
      ' ',
      name,
      '="',
      value.replace(/[&<"\t\n\r]/g, (c) => VALUE_ESCAPES[c]!),
      '"',
    );
  }
  parts.push('>');
  for (const child of element.children) {
    if (typeof child === 'string') {
      parts.push(child.replace(/[&<>\r]/g, (c) => TEXT_ESCAPES[c]!));
    } else if (child !== without) {
      render(child, element.scope, without, parts);
    }
  }
  parts.push('</', element.name, '>');
}

/** Those that the parent, which was rendered as well, does not already have in effect. */
function renderNamespaces(
  scope: ReadonlyMap<string, string>,
  outer: ReadonlyMap<string, string>,
  parts: string[],
): void {
  for (const prefix of [...scope.keys()].sort()) {
    const uri = scope.get(prefix)!;
    if ((outer.get(prefix) ?? '') === uri) continue;
    const name = prefix === '' ? 'xmlns' : `xmlns:${prefix}`;
    parts.push(
      ' ',
      name,
      '="',
      uri.replace(/[&"]/g, (c) => VALUE_ESCAPES[c]!),
      '"',
    );
  }
}

/** Attributes in no namespace come first: their namespace is the empty string. */
function byNamespaceAndName(a: XmlAttribute, b: XmlAttribute): number {
  if (a.namespace !== b.namespace) return a.namespace < b.namespace ? -1 : 1;
  return a.local < b.local ? -1 : 1;
}
