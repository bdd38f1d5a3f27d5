import { beforeAll, describe, expect, test } from 'vitest';
import { type Bytes, concatBytes } from '../core/bytes.ts';
import { readEvidenceList } from '../nvidia/evidence.ts';
import { OPAQUE } from '../nvidia/opaque.ts';
import { brief, makeContext } from '../testing/appraisal.ts';
import { type DeviceAuthority, makeDeviceAuthority, u16le } from '../testing/device-authority.ts';
import {
  type BoardReport,
  boardGpuFields,
  boardSwitchFields,
  makeBoard,
  makeBoardReports,
  type TestBoard,
} from '../testing/device-board.ts';
import {
  makeEvidenceItem,
  makeReport,
  type OpaqueField,
  withFields,
} from '../testing/device-reports.ts';
import { appraiseDevices } from './device-set.ts';
import { HGX_CLAIM_KINDS } from './topology.ts';

const nonce = new Uint8Array(32).fill(3);
const GOOD = HGX_CLAIM_KINDS.map((kind) => `MACHINE ${kind} verified`);
let authority: DeviceAuthority;
let board: TestBoard;
let good: BoardReport[];
let other: BoardReport[];

beforeAll(async () => {
  authority = await makeDeviceAuthority();
  board = await makeBoard(authority, 1);
  good = await makeBoardReports(board, nonce);
  other = await makeBoardReports(await makeBoard(authority, 2), nonce);
});

async function claimsOf(reports: readonly BoardReport[]): Promise<string[]> {
  const items = reports.map(({ device, report }) => makeEvidenceItem(device, report));
  const evidence = await readEvidenceList(JSON.stringify(items));
  const context = makeContext();
  const anchors = { ...context.anchors, nvidiaDevice: authority.rootSha256 };
  const { claims } = await appraiseDevices(evidence, { ...context, anchors, nonce });
  return claims.filter(({ kind }) => kind.startsWith('hgx.')).map(brief);
}

/** The good reports with that of the GPU in one slot (from 1) saying something else. */
async function withGpu(slot: number, ...changes: OpaqueField[]): Promise<BoardReport[]> {
  const fields = withFields(boardGpuFields(board, slot), ...changes);
  return replaced(slot - 1, fields);
}

async function withSwitch(number: number, ...changes: OpaqueField[]): Promise<BoardReport[]> {
  const fields = withFields(boardSwitchFields(board, number), ...changes);
  return replaced(8 + number - 1, fields);
}

async function replaced(at: number, fields: OpaqueField[]): Promise<BoardReport[]> {
  const { device } = good[at]!;
  const report = await makeReport(device, { nonce, fields });
  return good.map((one, i) => (i === at ? { device, report } : one));
}

/** What must be said when `kind` is refused with `code`, and what rests on it is left open. */
function refused(kind: string, code: string, open: readonly string[]): string[] {
  return GOOD.map((text) => {
    if (text.includes(` hgx.${kind} `)) return `MACHINE hgx.${kind} refused ${code}`;
    return open.some((one) => text.includes(` hgx.${one} `))
      ? text.replace('verified', 'unverified')
      : text;
  });
}

describe('a board', () => {
  test('holds, in whatever order its devices come', async () => {
    expect(await claimsOf(good)).toEqual(GOOD);
    expect(await claimsOf(good.toReversed())).toEqual(GOOD);
  });

  test('is not whole without one device, or with one shown twice', async () => {
    const rest = ['mode', 'identities', 'positions', 'slots', 'ports'];
    const incomplete = refused('set', 'set-incomplete', rest);
    expect(await claimsOf(good.slice(1))).toEqual(incomplete);
    expect(await claimsOf(good.slice(0, 8))).toEqual(incomplete);
    expect(await claimsOf([...good.slice(0, 7), good[0]!, ...good.slice(8)])).toEqual(incomplete);
  });

  test('is not made of two: a GPU or a switch of another one under the same nonce', async () => {
    const swapped = refused('identities', 'topology-mismatch', ['slots', 'ports']);
    for (const at of [0, 5, 8, 11]) {
      const mixed = good.map((one, i) => (i === at ? other[at]! : one));
      expect(await claimsOf(mixed)).toEqual(swapped);
    }
  });

  test('proves nothing with one report that is not authentic', async () => {
    const { device, report } = good[3]!;
    const flipped: Bytes = report.slice();
    flipped[flipped.length - 1]! ^= 1;
    const broken = good.map((one, i) => (i === 3 ? { device, report: flipped } : one));
    // Set and identities cannot be told any more, as the device is not known.
    const claims = await claimsOf(broken);
    expect(claims.filter((text) => text.includes(' verified'))).toEqual([]);
  });

  test('in another mode, or with a switch that is not locked', async () => {
    const open = refused('mode', 'mode-refused', []);
    expect(await claimsOf(await withSwitch(2, [OPAQUE.switchLock, u16le(0)]))).toEqual(open);
    const single = await withGpu(
      1,
      [OPAQUE.protectedPcie, Uint8Array.of(0x55)],
      [OPAQUE.featureFlag, u16le(0)],
    );
    expect(await claimsOf(single)).toEqual(open);
  });

  test('with two switches in one place', async () => {
    const claims = await claimsOf(await withSwitch(2, [OPAQUE.switchPosition, u16le(0)]));
    expect(claims).toEqual(refused('positions', 'topology-mismatch', ['slots', 'ports']));
  });

  test('with links that are those of no slot, or of a slot that is taken', async () => {
    const linksOf = (slot: number) => {
      return boardGpuFields(board, slot).find(([type]) => type === OPAQUE.gpuSwitchPdis)![1];
    };
    const wrong = refused('slots', 'topology-mismatch', ['ports']);
    const rotated = concatBytes(linksOf(1).subarray(8), linksOf(1).subarray(0, 8));
    expect(await claimsOf(await withGpu(1, [OPAQUE.gpuSwitchPdis, rotated]))).toEqual(wrong);
    expect(await claimsOf(await withGpu(1, [OPAQUE.gpuSwitchPdis, linksOf(2)]))).toEqual(wrong);
    const down = Uint8Array.from(linksOf(1)).fill(0, 0, 8);
    expect(await claimsOf(await withGpu(1, [OPAQUE.gpuSwitchPdis, down]))).toEqual(wrong);
  });

  test('with ports that lead elsewhere, or more of them than there are links', async () => {
    const field = boardSwitchFields(board, 1).find(([type]) => type === OPAQUE.switchGpuPorts)![1];
    const wrong = refused('ports', 'topology-mismatch', []);
    const exchanged = Uint8Array.from(field);
    [exchanged[64 + 32], exchanged[64 + 34]] = [exchanged[64 + 34]!, exchanged[64 + 32]!];
    expect(await claimsOf(await withSwitch(1, [OPAQUE.switchGpuPorts, exchanged]))).toEqual(wrong);
    const crowded = Uint8Array.from(field).fill(0, 64 + 59);
    expect(await claimsOf(await withSwitch(1, [OPAQUE.switchGpuPorts, crowded]))).toEqual(wrong);
  });
});
