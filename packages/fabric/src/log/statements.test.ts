import { expect, test } from 'vitest';
import type { Grade, LogEntry } from './entries.ts';
import type { Replay } from './replay.ts';
import { gradeOf, readTenantEvidence, statementsOf, type TenantEvidence } from './statements.ts';

const VKEY = 'bk/host-1/fabric+00000000+key';
const life = {
  commitment: 'aa',
  epoch: 1,
  modules: [1, 2],
  partition: 4,
  sanitizedAt: 3,
  activatedAt: 5,
  deactivatedAt: null,
  admittedAt: null,
  isMine: true,
};
const replay: Replay = {
  entries: 9,
  lives: [life],
  devices: { 1: 'one', 2: 'two', 3: 'three' },
  fmVersion: '590.48.01',
  findings: [],
};
const evidence: TenantEvidence = {
  identities: ['two', 'one'],
  links: [
    { isComplete: true, isAssigned: true },
    { isComplete: true, isAssigned: true },
  ],
  quotedLogKeys: [],
  wiredModules: null,
  driverVersions: ['590.48.01'],
  remapTables: null,
  encryption: null,
};
const say = (
  change: Partial<TenantEvidence> = {},
  from: Replay = replay,
  grade: 'host' | 'service-vm' | 'guest' = 'host',
) => {
  const statements = statementsOf(from, grade, VKEY, { ...evidence, ...change });
  return Object.fromEntries(
    statements.map(({ about, status, voucher }) => [about, `${status} by ${voucher}`]),
  );
};

test('what the operator says is never said to be more', () => {
  const said = say({ quotedLogKeys: [VKEY] });
  expect(said).toMatchObject({
    exclusive: 'asserted by operator',
    activated: 'asserted by operator',
    reset: 'asserted by operator',
    devices: 'asserted by operator',
    count: 'verified by device',
    links: 'asserted by guest',
  });
});

test('a log whose key a measured VM quotes is verified, and no other', () => {
  expect(say({ quotedLogKeys: [VKEY] }, replay, 'service-vm').exclusive).toBe(
    'verified by service-vm',
  );
  const other = ['another+00000000+key'];
  expect(say({ quotedLogKeys: other }, replay, 'service-vm').exclusive).toBe(
    'asserted by operator',
  );
  expect(say({ quotedLogKeys: [VKEY] }, replay, 'guest').exclusive).toBe('verified by guest');
});

test('devices that are others, or one twice, or elsewhere by their wiring, are refused', () => {
  expect(say({ identities: ['one', 'three'] }).devices).toBe('refused by device');
  const twice = say({ identities: ['one', 'one'] });
  expect([twice.devices, twice.count]).toEqual(['refused by device', 'refused by device']);
  for (const elsewhere of [[1, 3], [1, 2], [2]]) {
    expect(say({ wiredModules: elsewhere }).devices).toBe('refused by device');
  }
  expect(say({ wiredModules: [2, 1] }).devices).toBe('verified by device');
});

test('a driver of another version, and remap tables that are open or differ, are refused', () => {
  expect(say().driver).toBe('asserted by operator');
  expect(say({ driverVersions: ['590.48.01', '580.1'] }).driver).toBe('refused by operator');
  expect(say({ driverVersions: [] }).driver).toBe('absent by operator');
  const table = { isLocked: true, digest: 'a' };
  expect(say()['remap-table']).toBe('absent by guest');
  for (const isLocked of [true, null]) {
    const said = say({ remapTables: [{ ...table, isLocked }, table] });
    expect(said['remap-table']).toBe('asserted by guest');
  }
  for (const other of [
    { ...table, digest: 'b' },
    { ...table, isLocked: false },
  ]) {
    expect(say({ remapTables: [table, other] })['remap-table']).toBe('refused by guest');
  }
});

test('NVLink that is encrypted on some GPUs alone is refused', () => {
  expect(say().encryption).toBe('absent by guest');
  for (const isOn of [true, false]) {
    const both = { ...evidence, encryption: [isOn, isOn] };
    const said = statementsOf(replay, 'host', VKEY, both).find((one) => one.about === 'encryption');
    expect(said).toMatchObject({ status: 'asserted', voucher: 'guest', value: isOn });
  }
  expect(say({ encryption: [true, false] }).encryption).toBe('refused by guest');
  expect(say({ encryption: [true] }).encryption).toBe('refused by guest');
  const text = JSON.stringify({ ...evidence, encryption: [true] });
  expect(readTenantEvidence(text)?.encryption).toEqual([true]);
  expect(readTenantEvidence(JSON.stringify({ ...evidence, encryption: ['yes'] }))).toBeNull();
});

test('a log is of the least grade that is in it', () => {
  const of = (...grades: Grade[]) => gradeOf(grades.map((grade) => ({ grade }) as LogEntry));
  expect(of('guest', 'service-vm', 'guest')).toBe('service-vm');
  expect(of('service-vm', 'host')).toBe('host');
  expect(of('guest')).toBe('guest');
});

test('a GPU that has not joined, and findings of the log, are refused', () => {
  const links = [{ isComplete: true, isAssigned: false }, ...evidence.links!.slice(1)];
  expect(say({ links }).links).toBe('refused by guest');
  expect(say({ links: null }).links).toBe('absent by guest');
  const overlap = { index: 7, rule: 'overlap', message: 'module 2 is given twice' } as const;
  const found = say({ quotedLogKeys: [VKEY] }, { ...replay, findings: [overlap] }, 'service-vm');
  expect(found.exclusive).toBe('refused by service-vm');
  const gone = { ...replay, lives: [{ ...life, deactivatedAt: 8 }] };
  expect(say({}, gone).activated).toBe('refused by operator');
  expect(say({}, { ...replay, lives: [] })).toEqual({ activated: 'refused by operator' });
});
