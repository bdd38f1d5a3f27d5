import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type BodyPart, MalformedResponse, ResponseReader } from './response-reader.ts';

/** What a reader says of bytes that come in these pieces. */
function read(pieces: readonly Buffer[], isHead = false) {
  let status = 0;
  let content = '';
  let raw = '';
  let ends = 0;
  let rest = false;
  const sink = {
    head: (head: { status: number }) => {
      status = head.status;
    },
    body: ({ bytes, spans, from, to }: BodyPart) => {
      for (let at = 0; at < spans.length; at += 2) {
        content += bytes.toString('latin1', spans[at], spans[at + 1]);
      }
      raw += bytes.toString('latin1', from, to);
    },
    end: (more: boolean) => {
      ends += 1;
      rest = more;
    },
  };
  const reader = new ResponseReader(sink, isHead);
  for (const piece of pieces) reader.push(piece);
  return { status, content, raw, ends, rest };
}

/** Cut at random places; none of the pieces is empty. */
const cuts = (bytes: Buffer) =>
  fc.uniqueArray(fc.integer({ min: 1, max: bytes.length - 1 }), { maxLength: 12 }).map((places) => {
    const sorted = [0, ...places.sort((a, b) => a - b), bytes.length];
    return sorted.slice(1).map((end, at) => bytes.subarray(sorted[at], end));
  });

const chunks = fc.array(fc.string({ minLength: 1, maxLength: 40 }), { minLength: 1, maxLength: 6 });
const HEAD = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';
const framed = (text: string) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;

test('content in chunks is the same, wherever its bytes are cut', () => {
  const cases = chunks.chain((texts) => {
    const bytes = Buffer.from(`${HEAD}${texts.map(framed).join('')}0\r\n\r\n`);
    return cuts(bytes).map((pieces) => ({ texts, pieces }));
  });
  fc.assert(
    fc.property(cases, ({ texts, pieces }) => {
      const { content, ends, rest } = read(pieces);
      expect(Buffer.from(content, 'latin1').toString()).toBe(texts.join(''));
      expect([ends, rest]).toEqual([1, false]);
    }),
  );
});

test('what is passed on as it came is whole chunks with the same content', () => {
  const cases = chunks.chain((texts) => {
    const body = Buffer.from(`${texts.map(framed).join('')}0\r\n\r\n`);
    return cuts(body).map((pieces) => ({ texts, pieces }));
  });
  fc.assert(
    fc.property(cases, ({ texts, pieces }) => {
      const { raw } = read([Buffer.from(HEAD), ...pieces]);
      const whole = texts.map((text) => Buffer.from(framed(text)).toString('latin1'));
      // Some of the chunks, in their order, none cut and none twice.
      let left = raw;
      for (const each of whole) if (left.startsWith(each)) left = left.slice(each.length);
      expect(left).toBe('');
    }),
  );
});

test('a length ends an answer, and says whether more came', () => {
  const bytes = Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK');
  expect(read([bytes])).toMatchObject({ content: 'abc', ends: 1, rest: true });
  expect(read([bytes.subarray(0, 41)])).toMatchObject({ content: 'abc', ends: 1, rest: false });
  expect(read([bytes.subarray(0, 40)])).toMatchObject({ content: 'ab', ends: 0 });
});

test('an answer to HEAD, and one of 204, have no body, whatever they say', () => {
  const head = Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n');
  expect(read([head], true)).toMatchObject({ status: 200, ends: 1, rest: false });
  const none = Buffer.from('HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n');
  expect(read([none])).toMatchObject({ status: 204, ends: 1 });
});

test.each([
  'HTTP/2 200\r\n\r\n',
  'HTTP/1.1 20 OK\r\n\r\n',
  'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n',
  'HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n',
  'HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\n',
  'HTTP/1.1 200 OK\r\n Content-Length: 1\r\n\r\n',
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n',
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n',
  'HTTP/1.1 200 OK\r\nA: b\u0000c\r\nContent-Length: 0\r\n\r\n',
  `${HEAD}\r\n`,
  `${HEAD}1 \r\na\r\n`,
  `${HEAD}1;${'x'.repeat(5000)}`,
  `${HEAD}1;a\nb\r\n`,
  `${HEAD}123456789\r\n`,
  `${HEAD}1\r\nab\r\n`,
  `${HEAD}0\r\nTrailer: x\r\n\r\n`,
  Array(9).fill('HTTP/1.1 100 Continue\r\n\r\n').join(''),
])('refuses %j', (text) => {
  expect(() => read([Buffer.from(text)])).toThrow(MalformedResponse);
  expect(() => read([...Buffer.from(text)].map((byte) => Buffer.of(byte)))).toThrow(
    MalformedResponse,
  );
});

test('any bytes at all are read or refused', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 4 }), (parts) => {
      try {
        read(parts.map((part) => Buffer.from(part)));
      } catch (error) {
        expect(error).toBeInstanceOf(MalformedResponse);
      }
    }),
  );
});
