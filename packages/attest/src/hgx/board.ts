import { invariant } from '../core/invariant.ts';

/** The HGX H100 board: 8 GPUs by module id (1 to 8), 4 switches by number (1 to 4). */
export const BOARD_GPUS = 8;
export const BOARD_SWITCHES = 4;

/**
 * By module id (from 1): the switch at the far end of each of the GPU's 18 links. Read from the
 * evidence that NVIDIA publishes of one such board, where all eight rows occur; which row is which
 * module is by the HGX H100 table of its Fabric Manager user guide. No two rows are the same, so
 * the links tell the module.
 */
const SWITCH_OF_LINK = [
  '221144334432113322',
  '332233221132441144',
  '442244113323113322',
  '442244331123112233',
  '223344114432113322',
  '334433112232441122',
  '224422443323113311',
  '224422334423113311',
] as const;

/**
 * By switch number (from 1): the module id of the GPU at each of its 64 ports. Read from the same
 * evidence, which lists 106 of them; a point is a port of which nothing is known.
 */
const MODULE_OF_PORT = [
  '................................446644661122112233773377885.....',
  '33222266........................2366113318678811554.............',
  '6644............3386............66245544221151227...............',
  '................................662266227744774455885588331.....',
] as const;

/** The module id whose links lead to these switches (numbers, in the links' order), or null. */
export function moduleOfLinks(switches: readonly number[]): number | null {
  const index = (SWITCH_OF_LINK as readonly string[]).indexOf(switches.join(''));
  return index < 0 ? null : index + 1;
}

/** The switch numbers at the far end of a module's links, in their order. */
export function switchesOfModule(moduleId: number): number[] {
  const links = SWITCH_OF_LINK[moduleId - 1];
  invariant(links !== undefined, 'module ids are 1 to 8');
  return [...links].map(Number);
}

/** By port: the module id of the GPU there, or null where it is not known. */
export function modulesOfPorts(switchNumber: number): (number | null)[] {
  const ports = MODULE_OF_PORT[switchNumber - 1];
  invariant(ports !== undefined, 'switch numbers are 1 to 4');
  return [...ports].map((port) => (port === '.' ? null : Number(port)));
}
