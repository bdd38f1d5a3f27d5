import { describe, expect, test } from 'vitest';
import { type Bytes, toBase64, toHex, utf8 } from '../core/bytes.ts';
import { recognise } from './recognise.ts';

const kindOf = (bytes: Bytes) => recognise({ name: 'file', bytes })?.kind ?? null;
const ofText = (text: string) => kindOf(utf8(text));
const ofJson = (json: unknown) => ofText(JSON.stringify(json));

function blob(length: number, head: readonly number[]): Bytes {
  const bytes = new Uint8Array(length).fill(7);
  bytes.set(head);
  return bytes;
}
const REPORT = blob(2000, [0x11, 0xe0, 1, 0xff]);
const QUOTE = blob(5000, [4, 0, 2, 0, 0x81, 0, 0, 0]);
const SGX_QUOTE = blob(5000, [3, 0, 2, 0, 0, 0, 0, 0]);
const BOOT_LOG = blob(300, [1, 0, 0, 0, 3, 0, 0, 0]);
BOOT_LOG.set(utf8('Spec ID Event03\0'), 32);
const CERTIFICATE = blob(300, [0x30, 0x82, 1, 0x28, 0x30, 0x81, 0xc8, 0xa0, 3, 2, 1, 2, 2]);
const SNP_TABLE = blob(300, [0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5]);
SNP_TABLE.set([0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd], 10);
const OCSP_ANSWER = blob(300, [0x30, 0x82, 1, 0x28, 0x0a, 1, 0, 0xa0]);
const SNP_REPORT = blob(1184, [2, 0, 0, 0]);

describe('a file is known by its content', () => {
  test.each([
    ['device-report', REPORT],
    ['quote', QUOTE],
    ['quote', SGX_QUOTE],
    ['snp-report', SNP_REPORT],
    ['ocsp-answer', OCSP_ANSWER],
    ['boot-log', BOOT_LOG],
    ['certificates', CERTIFICATE],
    ['snp-certificates', SNP_TABLE],
  ])('%s: binary, hexadecimal and base64', (kind, bytes) => {
    expect(kindOf(bytes)).toBe(kind);
    for (const text of [toHex(bytes), `0x${toHex(bytes)}\n`, `${toBase64(bytes)}\n`]) {
      const found = recognise({ name: 'file', bytes: utf8(text) });
      expect(found?.kind).toBe(kind);
      expect(found?.bytes).toEqual(bytes);
    }
  });

  test('JSON by its keys', () => {
    expect(ofJson([{ arch: 'HOPPER', evidence: '', certificate: '' }])).toBe('device-list');
    expect(ofJson([['JWT', 'a.b.c'], {}])).toBe('token');
    expect(ofJson({ keys: [] })).toBe('key-set');
    expect(ofJson({ quote: '', event_log: '', report_data: '' })).toBe('quote-report');
    expect(ofJson({ hcl_report: '', tpm_quote: {} })).toBe('vtpm-evidence');
    expect(ofJson({ report: [], quote: {}, vcek: '' })).toBe('vtpm-evidence');
    expect(ofJson(['application/eat+cwt', 'AAAA'])).toBe('wrapper');
    expect(ofJson({ __cmwc_t: 'tag:x' })).toBe('wrapper');
    expect(ofJson({ a: ['a/b', ''] })).toBe('wrapper');
    expect(ofJson({ quote: '', cc_eventlog: null })).toBe('composite');
    expect(ofJson({ 'tee-evidence': {} })).toBe('composite');
    expect(ofJson({ attestation: '00' })).toBe('dstack-attestation');
    const bare = { quote: '', event_log: '', attestation: '00' };
    expect(ofJson(bare)).toBe('dstack-attestation');
    expect(ofJson({ ...bare, quote: '00' })).toBe('quote-report');
    expect(ofJson({ tcb_info: '', qe_identity: '', pck_crl: '' })).toBe('quote-collateral');
    expect(ofJson({ claims: [], detached_eat: [], result_code: 0 })).toBe('gpu-boot-record');
    expect(ofJson({ intel_quote: '', event_log: '', signing_address: '' })).toBe('server-report');
    expect(ofJson({ nonce: '', arch: '', evidence_list: [] })).toBe('device-list');
    expect(ofJson({ result_code: 0, evidences: [] })).toBe('device-list');
    expect(ofJson({ device_evidence_list: [] })).toBe('device-list');
    expect(ofJson({ receipt: {}, signature: '' })).toBe('receipt');
    expect(ofJson({ previous: null, first: 1, digests: [] })).toBe('receipt-links');
  });

  test('XML and PEM by how they begin', () => {
    expect(ofText('\n<?xml version="1.0"?><x/>')).toBe('rim');
    expect(ofText('-----BEGIN CERTIFICATE-----\n')).toBe('certificates');
  });

  test.each([
    ['nothing', new Uint8Array(0)],
    ['prose', utf8('# Vectors\nsome text')],
    ['other JSON', utf8('{"a":1}')],
    ['an empty list', utf8('[]')],
    ['a list of numbers', utf8('[1]')],
    ['odd hexadecimal', utf8('abc')],
    ['other hexadecimal', utf8('00'.repeat(100))],
    ['other bytes', blob(100, [0])],
    ['no UTF-8', blob(100, [0xff, 0xfe, 0xfd])],
    ['a private key', utf8('-----BEGIN PRIVATE KEY-----\n')],
  ])('%s is none of the kinds', (_, bytes) => {
    expect(kindOf(bytes)).toBeNull();
  });

  test('what is broken or too long is an error', () => {
    expect(() => ofText('{"a":')).toThrow(/is not JSON/);
    expect(() => kindOf(new Uint8Array(8 * 1024 * 1024 + 1))).toThrow(/at most/);
  });
});
