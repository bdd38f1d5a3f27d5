import { type Bytes, concatBytes } from '../core/bytes.ts';
import { BOARD_GPUS, BOARD_SWITCHES, modulesOfPorts, switchesOfModule } from '../hgx/board.ts';
import { OPAQUE } from '../nvidia/opaque.ts';
import {
  type DeviceAuthority,
  makeDevice,
  pdiBytes,
  type TestDevice,
  u16le,
} from './device-authority.ts';
import { goodFields, makeReport, type OpaqueField, withFields } from './device-reports.ts';

/** An HGX H100 board of our own: 8 GPUs in the order of their module ids, 4 switches likewise. */
export interface TestBoard {
  readonly gpus: readonly TestDevice[];
  readonly switches: readonly TestDevice[];
}

/** `serial` (up to 255) tells the devices of one board from those of another. */
export async function makeBoard(authority: DeviceAuthority, serial: number): Promise<TestBoard> {
  const make = (arch: 'hopper' | 'ls10', count: number): Promise<TestDevice[]> =>
    Promise.all(
      Array.from({ length: count }, (_, i) => {
        const digits = (0x100 * serial + i + 1).toString(16).padStart(8, '0');
        const pdi = (arch === 'ls10' ? 'a0000000' : 'b0000000') + digits;
        return makeDevice(authority, { arch, pdi });
      }),
    );
  return { gpus: await make('hopper', BOARD_GPUS), switches: await make('ls10', BOARD_SWITCHES) };
}

/** The opaque fields of the GPU in the slot of that module id (from 1), as wired on the board. */
export function boardGpuFields(board: TestBoard, moduleId: number): OpaqueField[] {
  const links = switchesOfModule(moduleId).map((number) => {
    return pdiBytes(board.switches[number - 1]!.pdi).reverse();
  });
  return withFields(
    goodFields(board.gpus[moduleId - 1]!),
    [OPAQUE.protectedPcie, Uint8Array.of(0xaa)],
    [OPAQUE.gpuSwitchPdis, concatBytes(...links)],
    [OPAQUE.featureFlag, u16le(2)],
  );
}

/** The opaque fields of the switch of that number (from 1), as wired on the board. */
export function boardSwitchFields(board: TestBoard, number: number): OpaqueField[] {
  const ports = modulesOfPorts(number).map((moduleId) => (moduleId === null ? 0xff : moduleId - 1));
  const gpus = board.gpus.map(({ pdi }) => pdiBytes(pdi));
  return withFields(
    goodFields(board.switches[number - 1]!),
    [OPAQUE.switchGpuPorts, concatBytes(...gpus, Uint8Array.from(ports))],
    [OPAQUE.switchDisabledPorts, u16le(0x00ec)],
    [OPAQUE.switchPosition, u16le(number - 1)],
    [OPAQUE.switchLock, u16le(1)],
  );
}

/** A device of a board with its report. */
export interface BoardReport {
  readonly device: TestDevice;
  readonly report: Bytes;
}

/** All twelve reports: GPUs, then switches. */
export async function makeBoardReports(board: TestBoard, nonce: Bytes): Promise<BoardReport[]> {
  const report = async (device: TestDevice, fields: OpaqueField[]): Promise<BoardReport> => {
    return { device, report: await makeReport(device, { nonce, fields }) };
  };
  return Promise.all([
    ...board.gpus.map((gpu, i) => report(gpu, boardGpuFields(board, i + 1))),
    ...board.switches.map((one, i) => report(one, boardSwitchFields(board, i + 1))),
  ]);
}
