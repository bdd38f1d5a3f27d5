import { createHash, createHmac } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { pathWithin, readAddress } from './address.ts';
import { ClientError } from './errors.ts';
import { endToEndHeaders, readOutgoing } from './outgoing.ts';
import { proofOfKey } from './proof.ts';

const thrown = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    if (error instanceof ClientError) return error.code;
    throw error;
  }
  return 'none';
};

describe('an address', () => {
  test.each([
    ['https://a.example', ''],
    ['https://a.example/', ''],
    ['https://a.example/v1', ''],
    ['https://a.example/replica-1/v1/', '/replica-1'],
    ['http://127.0.0.1:8000/replica-1', '/replica-1'],
  ])('%s has the base path "%s"', (text, basePath) => {
    expect(readAddress(text).basePath).toBe(basePath);
  });

  test.each(['', 'a.example', 'ftp://a.example', 'https://user:key@a.example'])(
    '"%s" is none',
    (text) => {
      expect(thrown(() => readAddress(text))).toBe('bad-address');
    },
  );

  test('keeps requests at its origin and below its path', () => {
    const address = readAddress('https://a.example/replica-1/v1');
    expect(pathWithin(address, 'https://a.example/replica-1/v1/models?a=b')).toBe(
      '/replica-1/v1/models?a=b',
    );
    for (const elsewhere of [
      'https://b.example/replica-1/v1/models',
      'http://a.example/replica-1/v1/models',
      'https://a.example:8443/replica-1/v1/models',
      'https://a.example/replica-2/v1/models',
      'https://a.example/replica-10/v1/models',
      'https://a.example/replica-1/../replica-2/v1/models',
      'https://a.example/replica-1/%2e%2e/replica-2/v1/models',
    ]) {
      expect([elsewhere, thrown(() => pathWithin(address, elsewhere))]).toEqual([
        elsewhere,
        'elsewhere',
      ]);
    }
  });
});

describe('a request', () => {
  const address = readAddress('https://a.example');
  const url = 'https://a.example/v1/x';
  const streamOf = (...parts: string[]) =>
    new ReadableStream({
      start(controller) {
        for (const part of parts) controller.enqueue(new TextEncoder().encode(part));
        controller.close();
      },
    });

  test('is read whole, up to its limit and no further', async () => {
    const init = { method: 'POST', body: streamOf('ab', 'cd'), duplex: 'half' as const };
    const { body, method } = await readOutgoing(address, url, init, 4);
    expect([method, new TextDecoder().decode(body)]).toEqual(['POST', 'abcd']);
    const long = { ...init, body: streamOf('ab', 'cd', 'e') };
    await expect(readOutgoing(address, url, long, 4)).rejects.toMatchObject({ code: 'too-large' });
  });

  test('has no headers of another connection', async () => {
    const headers = {
      connection: 'keep-alive, X-Own',
      'x-own': '1',
      'transfer-encoding': 'chunked',
      'proxy-authorization': 'secret',
      host: 'b.example',
      'accept-encoding': 'br',
      authorization: 'Bearer key',
    };
    const outgoing = await readOutgoing(address, url, { headers }, 4);
    expect(outgoing.headers).toEqual([['authorization', 'Bearer key']]);
    expect(endToEndHeaders([['Connection', 'close']])).toEqual([]);
  });
});

test('a key is proven as the server computes it', async () => {
  const nonce = 'ab'.repeat(32);
  const digest = createHash('sha256').update('sesame').digest();
  const hex = createHmac('sha256', digest).update(`bridgekeeper.report.v1 ${nonce}`).digest('hex');
  expect(await proofOfKey('sesame', nonce)).toBe(`Bridgekeeper-Proof ${hex}`);
});
