import { beforeAll, describe, expect, test } from 'vitest';
import { type Bytes, concatBytes } from '../core/bytes.ts';
import { BOOT_EVENTS, bootRegisters, makeCcel, type TestBootEvent } from '../testing/ccel.ts';
import { type IntelAuthority, makeIntelAuthority } from '../testing/quote-authority.ts';
import { makeTdxQuote } from '../testing/quote-report.ts';
import { appraiseCcel, readCcel } from './ccel.ts';
import { readTdxQuote } from './tdx-quote.ts';

let intel: IntelAuthority;
let log: Bytes;
beforeAll(async () => {
  intel = await makeIntelAuthority();
  log = await makeCcel();
});

async function appraise(
  events: readonly TestBootEvent[],
  rtmrs: readonly Bytes[],
  isGenuine = true,
) {
  const quote = await readTdxQuote(await makeTdxQuote(intel, { rtmrs }));
  return appraiseCcel(readCcel(await makeCcel(events)), quote, isGenuine);
}

describe('a log of the boot', () => {
  test('leads to the registers, without what is only noted', async () => {
    const claim = await appraise(BOOT_EVENTS, await bootRegisters());
    expect(claim).toMatchObject({ kind: 'cpu.eventLog', status: 'verified' });
    expect(claim.statement).toBe('4 events of the boot lead to rtmr0, rtmr1, rtmr2');
    expect(claim.value).toEqual(['rtmr0', 'rtmr1', 'rtmr2']);
  });

  test('says nothing of RTMR3, unless it has events of it', async () => {
    const [zero, one, two] = await bootRegisters();
    const extended = [zero!, one!, two!, new Uint8Array(48).fill(9)];
    const without = await appraise(BOOT_EVENTS, extended);
    expect([without.status, without.value]).toEqual(['verified', ['rtmr0', 'rtmr1', 'rtmr2']]);
    const last = [...BOOT_EVENTS, { index: 4, type: 1, data: 'software' }];
    expect((await appraise(last, extended)).code).toBe('event-log-mismatch');
    const whole = await appraise(last, await bootRegisters(last));
    expect([whole.status, whole.value]).toEqual(['verified', ['rtmr0', 'rtmr1', 'rtmr2', 'rtmr3']]);
  });

  test.each<[string, (events: TestBootEvent[]) => TestBootEvent[]]>([
    ['with an event left out', (events) => events.slice(1)],
    ['with an event more', (events) => [...events, events[0]!]],
    ['in another order', ([a, b, ...rest]) => [b!, a!, ...rest]],
    ['with another event', ([a, ...rest]) => [{ ...a!, data: 'other' }, ...rest]],
    ['with an event in another register', ([a, ...rest]) => [{ ...a!, index: 2 }, ...rest]],
    ['of which an event is called a note', ([a, ...rest]) => [{ ...a!, type: 3 }, ...rest]],
  ])('%s is refused', async (_, edit) => {
    const claim = await appraise(edit([...BOOT_EVENTS]), await bootRegisters());
    expect(claim).toMatchObject({ status: 'refused', code: 'event-log-mismatch' });
    expect(claim.statement).toMatch(/does not lead to RTMR/);
  });

  test('of a quote that is not proven proves nothing', async () => {
    const claim = await appraise(BOOT_EVENTS, await bootRegisters(), false);
    expect(claim).toMatchObject({ status: 'unverified', voucher: 'operator-asserted' });
  });
});

describe('reading', () => {
  test('takes either filling, none, and digests of several algorithms', async () => {
    const events = readCcel(log);
    expect(events.map(({ index, type }) => [index, type])).toEqual(
      BOOT_EVENTS.map(({ index, type }) => [index, type]),
    );
    expect(readCcel(await makeCcel(BOOT_EVENTS, { filling: 0 }))).toEqual(events);
    expect(readCcel(log.subarray(0, -64))).toEqual(events);
    expect(readCcel(await makeCcel(BOOT_EVENTS, { isDouble: true }))).toEqual(events);
  });

  const changed = (at: number, ...bytes: number[]) => {
    const copy = log.slice();
    copy.set(bytes, at);
    return copy;
  };
  const header = 32;
  const first = 32 + 33;
  test.each<[string, () => Bytes, string]>([
    ['nothing', () => new Uint8Array(0), 'malformed'],
    ['another first event', () => changed(4, 4), 'malformed'],
    ['a digest of the first event', () => changed(8, 1), 'malformed'],
    ['another format', () => changed(header + 14, 0x32), 'malformed'],
    ['no algorithms', () => changed(header + 24, 0), 'malformed'],
    ['SHA-1 alone', () => changed(header + 28, 4, 0, 48, 0), 'unsupported-algorithm'],
    ['digests that are too short', () => changed(header + 30, 47), 'unsupported-algorithm'],
    ['an event of no register', () => changed(first, 0), 'malformed'],
    ['an event of a register beyond', () => changed(first, 5), 'malformed'],
    ['an event without digests', () => changed(first + 8, 0), 'malformed'],
    ['a digest that was not announced', () => changed(first + 12, 0x0b), 'malformed'],
    ['an event without end', () => changed(first + 62, 0xff, 0xff, 0xff), 'too-large'],
    ['something behind the filling', () => changed(log.length - 1, 7), 'malformed'],
    ['half an event', () => log.subarray(0, -70), 'malformed'],
    ['other filling', () => concatBytes(log.subarray(0, -64), new Uint8Array(8)), ''],
    ['too much', () => new Uint8Array(8 * 1024 * 1024 + 1), 'too-large'],
  ])('%s', (_, bytes, code) => {
    if (code === '') expect(readCcel(bytes())).toHaveLength(BOOT_EVENTS.length);
    else expect(() => readCcel(bytes())).toThrow(expect.objectContaining({ code }));
  });
});
