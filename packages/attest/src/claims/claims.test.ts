import { describe, expect, test } from 'vitest';
import { AttestError, demand } from '../core/errors.ts';
import { type Check, checked, checkedIn, unchecked } from './check.ts';
import { type Claim, claim, type Voucher } from './claim.ts';

const fields: Claim = {
  kind: 'gpu.nonce',
  subject: 'GPU-0',
  status: 'verified',
  voucher: 'device-signed',
  statement: 'the report answers the nonce',
  evidence: ['GPU-0 report'],
};
const check: Check = {
  kind: 'gpu.nonce',
  subject: 'GPU-0',
  voucher: 'device-signed',
  statement: 'the report answers the nonce',
  evidence: ['GPU-0 report'],
  why: 'It may be old',
};
const refuse = () => demand(false, 'nonce-mismatch', 'it answers another nonce');

describe('a claim', () => {
  test.each<Voucher>(['device-signed', 'cpu-signed', 'vendor-signed'])(
    'that is %s can be verified',
    (voucher) => {
      expect(claim({ ...fields, voucher })).toEqual({ ...fields, voucher });
    },
  );

  test.each<Voucher>(['guest-observed', 'operator-asserted'])(
    'that is %s can be anything but verified',
    (voucher) => {
      expect(() => claim({ ...fields, voucher })).toThrow('gpu.nonce: verified, but unsigned');
      const open = { ...fields, voucher, status: 'unverified', why: 'nobody signed it' } as const;
      expect(claim(open)).toEqual(open);
      const refused = { ...fields, voucher, status: 'refused', code: 'tcb-refused' } as const;
      expect(claim(refused)).toEqual(refused);
    },
  );

  test('that is refused has a code, and no other has one', () => {
    expect(() => claim({ ...fields, status: 'refused' })).toThrow('refusals have codes');
    expect(() => claim({ ...fields, code: 'tcb-refused' })).toThrow('refusals have codes');
    const open = { ...fields, status: 'unverified', why: 'x', code: 'tcb-refused' } as const;
    expect(() => claim(open)).toThrow('refusals have codes');
  });

  test('that is unverified says why that matters', () => {
    expect(() => claim({ ...fields, status: 'unverified' })).toThrow('unverified needs a why');
  });
});

describe('a check', () => {
  test('that passes is verified, without a word of what it would have meant', async () => {
    expect(await checked(check, () => undefined)).toEqual(fields);
  });

  test('that does not pass is refused with the code, the message and why it matters', async () => {
    expect(await checked(check, refuse)).toEqual({
      ...fields,
      status: 'refused',
      statement: 'it answers another nonce',
      code: 'nonce-mismatch',
      why: 'It may be old',
    });
  });

  test('that fails for a fault of our own is no claim of the evidence', async () => {
    const fail = () => {
      throw new TypeError('a fault');
    };
    await expect(checked(check, fail)).rejects.toThrow('a fault');
    await expect(checked(check, () => Promise.reject(new RangeError('x')))).rejects.toThrow('x');
  });

  test('that was not made is the operator’s word, unless somebody else stands behind it', () => {
    const open = { ...fields, status: 'unverified', why: 'No nonce. It may be old' };
    const asserted = { ...open, voucher: 'operator-asserted' };
    expect(unchecked(check, 'No nonce')).toEqual(asserted);
    expect(unchecked(check, 'No nonce', 'cpu-signed')).toEqual({ ...open, voucher: 'cpu-signed' });
  });

  test('in a document that nothing proves genuine can be refused, and never verified', async () => {
    const doubtful = { isGenuine: false, doubt: 'Nothing proves it' };
    expect(await checkedIn(doubtful, check, () => undefined)).toEqual({
      ...fields,
      status: 'unverified',
      voucher: 'operator-asserted',
      why: 'Nothing proves it. It may be old',
    });
    expect(await checkedIn(doubtful, check, refuse)).toMatchObject({ code: 'nonce-mismatch' });
    const genuine = { isGenuine: true, doubt: 'Nothing proves it' };
    expect(await checkedIn(genuine, check, () => undefined)).toEqual(fields);
    await expect(
      checkedIn(genuine, check, () => {
        throw new AttestError('tcb-refused', 'x');
      }),
    ).resolves.toMatchObject({ status: 'refused', code: 'tcb-refused' });
  });
});
