import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fromUtf8, utf8 } from '../core/bytes.ts';
import { AttestError } from '../core/errors.ts';
import { canonicalXml } from './canonical.ts';
import { elementsOf, readXml } from './xml.ts';

const read = (text: string) => readXml(utf8(text), 'the document');
const canonical = (text: string) => fromUtf8(canonicalXml(read(text), null), 'the result');

function codeOf(text: string): string {
  try {
    read(text);
    return 'read';
  } catch (error) {
    if (error instanceof AttestError) return error.code;
    throw error;
  }
}

describe('reading XML', () => {
  it.each([
    ['a document type', '<!DOCTYPE a><a/>', 'malformed'],
    ['an entity bomb', '<!DOCTYPE a [<!ENTITY b "&c;&c;">]><a>&b;</a>', 'malformed'],
    ['an external entity', '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', 'malformed'],
    ['an entity that is not named', '<a>&b;</a>', 'malformed'],
    ['a bare ampersand', '<a>b & c</a>', 'malformed'],
    ['a comment', '<a>b<!-- c -->d</a>', 'malformed'],
    ['a CDATA section', '<a><![CDATA[b]]></a>', 'malformed'],
    ['an instruction', '<a><?b c?></a>', 'malformed'],
    ['another version', '<?xml version="1.1"?><a/>', 'malformed'],
    ['another encoding', '<?xml version="1.0" encoding="utf-16"?><a/>', 'malformed'],
    ['a tag that does not end', '<a><b></a>', 'malformed'],
    ['a tag that ends as another', '<a></b>', 'malformed'],
    ['a longer end tag', '<a></ab>', 'malformed'],
    ['no element', '  ', 'malformed'],
    ['two outermost elements', '<a/><b/>', 'trailing-bytes'],
    ['text behind the end', '<a/>b', 'trailing-bytes'],
    ['an attribute twice', '<a b="1" b="2"/>', 'malformed'],
    ['one name by two prefixes', '<a xmlns:p="u:x" xmlns:q="u:x" p:b="" q:b=""/>', 'malformed'],
    ['an undeclared prefix', '<p:a/>', 'malformed'],
    ['a prefix that is taken back', '<a xmlns:p="u:x"><b xmlns:p=""/></a>', 'malformed'],
    ['a relative namespace', '<a xmlns="b"/>', 'malformed'],
    ['an inherited attribute', '<a xml:lang="en"/>', 'malformed'],
    ['an attribute without quotes', '<a b=c/>', 'malformed'],
    ['attributes without space', '<a b="1"c="2"/>', 'malformed'],
    ['< in a value', '<a b="<"/>', 'malformed'],
    ['the end of CDATA in text', '<a>]]></a>', 'malformed'],
    ['a forbidden character', '<a>\u0001</a>', 'malformed'],
    ['a reference to one', '<a>&#0;</a>', 'malformed'],
    ['a reference beyond Unicode', '<a>&#x110000;</a>', 'malformed'],
    ['deep nesting', '<a>'.repeat(17) + '</a>'.repeat(17), 'malformed'],
    ['many elements', `<a>${'<b/>'.repeat(9000)}</a>`, 'malformed'],
    ['many bytes', `<a>${' '.repeat(1024 * 1024)}</a>`, 'too-large'],
  ])('refuses %s', (_, text, code) => {
    expect(codeOf(text)).toBe(code);
  });

  it('refuses bytes that are not UTF-8', () => {
    const bytes = Uint8Array.of(0x3c, 0x61, 0x3e, 0xc0, 0xaf, 0x3c, 0x2f, 0x61, 0x3e);
    expect(() => readXml(bytes, 'the document')).toThrow(/UTF-8/);
  });

  it('takes all of an element for its text, and none for its elements', () => {
    expect(() => elementsOf(read('<a><b/>text</a>'), 'the document')).toThrow(/text/);
  });
});

// The expected texts follow the rules of Canonical XML 1.1 (sections 1.1, 2.3 and 3).
describe('canonical XML', () => {
  it.each([
    ['empty elements', '<a  ><b/></a >', '<a><b></b></a>'],
    ['what stands around', '<?xml version="1.0"?>\n<a/>\n', '<a></a>'],
    ['line ends', '<a>1\r\n2\r3</a>', '<a>1\n2\n3</a>'],
    ['quotes', `<a b='c"d'/>`, '<a b="c&quot;d"></a>'],
    [
      'references',
      '<a b="&#9;&#xA;&#13;">&#13;&gt;&#60;&#x26;</a>',
      '<a b="&#x9;&#xA;&#xD;">&#xD;&gt;&lt;&amp;</a>',
    ],
    ['white space in values', '<a b="1\n2\t3"/>', '<a b="1 2 3"></a>'],
    ['order of attributes', '<a d="1" c="2"/>', '<a c="2" d="1"></a>'],
  ])('normalises %s', (_, text, expected) => {
    expect(canonical(text)).toBe(expected);
  });

  it('orders declarations by prefix and attributes by namespace, then name', () => {
    const text =
      '<e5 xmlns:b="http://www.ietf.org" a:attr="out" b:attr="sorted" attr2="all" attr="I\'m" ' +
      'xmlns:a="http://www.w3.org" xmlns="http://example.org"/>';
    const expected =
      '<e5 xmlns="http://example.org" xmlns:a="http://www.w3.org" xmlns:b="http://www.ietf.org" ' +
      'attr="I\'m" attr2="all" b:attr="sorted" a:attr="out"></e5>';
    expect(canonical(text)).toBe(expected);
  });

  it('writes a namespace where it comes into effect and nowhere else', () => {
    const text =
      '<e6 xmlns=""><e7 xmlns="http://www.ietf.org"><e8 xmlns=""><e9 xmlns="" a:b="c" ' +
      'xmlns:a="http://www.w3.org"/></e8><f xmlns="http://www.ietf.org"/></e7></e6>';
    const expected =
      '<e6><e7 xmlns="http://www.ietf.org"><e8 xmlns=""><e9 xmlns:a="http://www.w3.org" ' +
      'a:b="c"></e9></e8><f></f></e7></e6>';
    expect(canonical(text)).toBe(expected);
  });

  it('gives a part all namespaces that are in scope, used or not', () => {
    const document = read('<a xmlns="u:x" xmlns:p="u:p"><b xmlns:p="u:q"><c/></b></a>');
    const [b] = elementsOf(document, 'the document');
    const text = fromUtf8(canonicalXml(b!, null), 'the result');
    expect(text).toBe('<b xmlns="u:x" xmlns:p="u:q"><c></c></b>');
  });

  it('leaves one element out, and nothing around it', () => {
    const document = read('<a> <b>1</b> <b>2</b> </a>');
    const [first] = elementsOf(document, 'the document');
    expect(fromUtf8(canonicalXml(document, first!), 'the result')).toBe('<a>  <b>2</b> </a>');
  });

  it('is its own canonical form', () => {
    const name = fc.constantFrom('a', 'b', 'p:a', 'q:c');
    const text = fc
      .string({ unit: 'binary' })
      .map((raw) => raw.replace(/[^ -~\u{a0}-\u{d7ff}\t\n]/gu, ''));
    const escaped = text.map((raw) =>
      raw.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`),
    );
    const attributes = fc.dictionary(fc.constantFrom('x', 'p:x', 'q:y', 'z'), escaped);
    const { element } = fc.letrec<{ element: string }>((tie) => ({
      element: fc
        .tuple(name, attributes, fc.array(fc.oneof({ maxDepth: 3 }, escaped, tie('element'))))
        .map(([tag, values, children]) => {
          const written = Object.entries(values).map(([key, value]) => ` ${key}='${value}'`);
          return `<${tag}${written.join('')}>${children.join('')}</${tag}>`;
        }),
    }));
    fc.assert(
      fc.property(element, (inner) => {
        const once = canonical(`<r xmlns:p="u:p" xmlns:q="u:q">${inner}</r>`);
        expect(canonical(once)).toBe(once);
      }),
      { numRuns: 200 },
    );
  });
});
