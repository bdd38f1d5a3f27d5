import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ephemeralSigner, signerFromFile } from './signing-key.ts';

const folder = mkdtempSync(join(tmpdir(), 'signing-key-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const badKeyFields = (message: string) => ({ code: 'bad-key', message });
const badKey = (message: string) => expect.objectContaining(badKeyFields(message));
const MAKE = { mayMake: true };
const MESSAGE = new TextEncoder().encode('the sea');

const publicKey = (hex: string) =>
  createPublicKey({
    key: { kty: 'OKP', crv: 'Ed25519', x: Buffer.from(hex, 'hex').toString('base64url') },
    format: 'jwk',
  });

test('a key signs as the key that it names, from memory and from its file', async () => {
  const path = join(folder, 'key');
  const signers = [ephemeralSigner(), signerFromFile(path, MAKE), signerFromFile(path, MAKE)];
  for (const { key, sign } of signers) {
    expect(key).toMatch(/^[0-9a-f]{64}$/);
    expect(verify(null, MESSAGE, publicKey(key), await sign(MESSAGE))).toBe(true);
  }
  expect(signers[2]!.key).toBe(signers[1]!.key);
  expect(signers[0]!.key).not.toBe(signers[1]!.key);
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test.each([0o640, 0o620, 0o610, 0o604, 0o602, 0o601])('a key of mode %o is refused', (mode) => {
  const path = join(folder, `key-${mode}`);
  const { key } = signerFromFile(path, MAKE);
  chmodSync(path, mode);
  expect(() => signerFromFile(path, MAKE)).toThrow(
    badKey(`${path} can be read by others: chmod 600 it`),
  );
  chmodSync(path, 0o600);
  expect(signerFromFile(path, MAKE).key).toBe(key);
});

test('a file that is no Ed25519 key is refused, and left as it was', () => {
  const path = join(folder, 'other');
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' });
  writeFileSync(path, pem, { mode: 0o600 });
  expect(() => signerFromFile(path, MAKE)).toThrow(badKey(`${path} holds a ec key, not Ed25519`));
  writeFileSync(path, 'no key');
  expect(() => signerFromFile(path, MAKE)).toThrow(`cannot use ${path}: `);
  expect(readFileSync(path, 'utf8')).toBe('no key');
});

test('a file that cannot be written is refused with why', () => {
  const path = join(folder, 'none', 'key');
  expect(() => signerFromFile(path, MAKE)).toThrow(
    expect.objectContaining({
      ...badKeyFields(`cannot use ${path}: ENOENT`),
      cause: expect.objectContaining({ code: 'ENOENT' }),
    }),
  );
});

test('a key that is missing is not made where receipts were signed with it', () => {
  const path = join(folder, 'missing');
  expect(() => signerFromFile(path, { mayMake: false })).toThrow(
    expect.objectContaining({
      code: 'bad-key',
      message: expect.stringContaining(`${path}, which signed the receipts, is missing: put it`),
    }),
  );
  const { key } = signerFromFile(path, MAKE);
  expect(signerFromFile(path, { mayMake: false }).key).toBe(key);
});
