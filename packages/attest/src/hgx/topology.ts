import { type Check, checked, unchecked } from '../claims/check.ts';
import type { Claim, ClaimValue } from '../claims/claim.ts';
import { AttestError, demand } from '../core/errors.ts';
import type { AppraisedDevice } from '../nvidia/device.ts';
import type { DeviceReport, SwitchPlace } from '../nvidia/device-report.ts';
import {
  BOARD_GPUS,
  BOARD_SWITCHES,
  moduleOfLinks,
  modulesOfPorts,
  switchesOfModule,
} from './board.ts';

/** Every kind of claim that `appraiseHgx` makes. */
export const HGX_CLAIM_KINDS = [
  'hgx.set',
  'hgx.mode',
  'hgx.identities',
  'hgx.positions',
  'hgx.slots',
  'hgx.ports',
] as const;
type HgxClaimKind = (typeof HGX_CLAIM_KINDS)[number];

interface Gpu {
  readonly subject: string;
  readonly pdi: string | null;
  /** By link, a switch's PDI. */
  readonly links: readonly (string | null)[];
  readonly isProtectedPcie: boolean;
}

interface Switch {
  readonly subject: string;
  readonly pdi: string | null;
  readonly place: SwitchPlace;
}

interface Board {
  readonly gpus: readonly Gpu[];
  readonly switches: readonly Switch[];
}

/**
 * Whether GPUs and switches make up one HGX H100 board in Protected PCIe mode, from signed evidence
 * alone: who is linked to whom, by identities that certificates state; in which slot each GPU sits;
 * and that the switches' ports lead where the board's do. There is nothing to claim, and the list
 * is empty, for other machines. It shows neither that a partition is active nor that routes are
 * right: no device signs that.
 */
export async function appraiseHgx(devices: readonly AppraisedDevice[]): Promise<Claim[]> {
  if (!devices.some(({ report }) => isGpuOfBoard(report))) return [];
  const doubtful = devices.find(({ isAuthentic, pdi }) => !isAuthentic || pdi === null);
  const doubt =
    doubtful === undefined ? null : `${doubtful.subject} is not proven to be what it says`;
  const claims = new ClaimList(devices, doubt);
  const board = boardOf(devices);
  const isWhole = await claims.check(SET, () => demandWhole(board));
  if (!isWhole) return claims.withRest([MODE, IDENTITIES, POSITIONS, SLOTS, PORTS]);
  await claims.check(MODE, () => demandProtected(board));
  const hasIdentities = await claims.check(IDENTITIES, () => demandLinked(board));
  const hasPositions = await claims.check(POSITIONS, () => demandPositions(board));
  if (!hasIdentities || !hasPositions) return claims.withRest([SLOTS, PORTS]);
  const slots = slotsOf(board);
  const seen = [...slots].map(([subject, slot]) => `${subject}=${slot ?? 'none'}`);
  const hasSlots = await claims.check({ ...SLOTS, value: seen }, () => demandSlots(slots));
  if (!hasSlots) return claims.withRest([PORTS]);
  const ports = comparePorts(board, slots);
  await claims.check({ ...PORTS, value: ports.agreeing }, () => demandPorts(ports));
  return claims.withRest([]);
}

type Subject = Pick<Check, 'statement' | 'why'> & {
  readonly kind: HgxClaimKind;
  readonly value?: ClaimValue;
};

const SET: Subject = {
  kind: 'hgx.set',
  statement: `all ${BOARD_GPUS} GPUs and ${BOARD_SWITCHES} switches of the board are there`,
  why: 'What is not shown can read along: in Protected PCIe mode NVLink is not encrypted',
};
const MODE: Subject = {
  kind: 'hgx.mode',
  statement: 'all GPUs are in Protected PCIe mode and all switches are locked',
  why: 'A device in another mode is open to the host',
};
const IDENTITIES: Subject = {
  kind: 'hgx.identities',
  statement: 'GPUs and switches name each other, by the identities in their certificates',
  why: 'Devices of another machine can have been put in',
};
const POSITIONS: Subject = {
  kind: 'hgx.positions',
  statement: 'the switches have the four positions of the board',
  why: 'Without positions it is not known what is linked to what',
};
const SLOTS: Subject = {
  kind: 'hgx.slots',
  statement: 'the GPUs’ links show them in the eight slots of an HGX H100 board',
  why: 'The links are not those of the board, or not all of them are up',
};
const PORTS: Subject = {
  kind: 'hgx.ports',
  statement: 'the switches’ ports lead to the GPUs that the board has there',
  why: 'The wiring is not the board’s',
};

/** Collects claims that rest on all of the set's reports. */
class ClaimList {
  readonly #claims: Claim[] = [];
  readonly #evidence: readonly string[];
  readonly #doubt: string | null;

  constructor(devices: readonly AppraisedDevice[], doubt: string | null) {
    this.#evidence = devices.map(({ subject }) => `${subject} report`);
    this.#doubt = doubt;
  }

  /** Adds the claim that `test` makes; whether it holds, be it verified or not. */
  async check(subject: Subject, test: () => void): Promise<boolean> {
    const check = this.#checkOf(subject);
    const claim = await checked(check, test);
    const isRefused = claim.status === 'refused';
    const isDoubtful = !isRefused && this.#doubt !== null;
    this.#claims.push(isDoubtful ? unchecked(check, this.#doubt) : claim);
    return !isRefused;
  }

  /** The claims, with those that could not be checked because of one that was refused. */
  withRest(subjects: readonly Subject[]): Claim[] {
    const made = new Set(this.#claims.map(({ kind }) => kind));
    const reason = 'It cannot be checked, as what it rests on is refused';
    const rest = subjects.filter(({ kind }) => !made.has(kind));
    return [...this.#claims, ...rest.map((one) => unchecked(this.#checkOf(one), reason))];
  }

  #checkOf(subject: Subject): Check {
    const evidence = this.#evidence;
    return { subject: 'MACHINE', voucher: 'device-signed', evidence, ...subject };
  }
}

function isGpuOfBoard({
  kind,
  switchOfLink,
  isProtectedPcie,
  multiGpuMode,
}: DeviceReport): boolean {
  const isInMode = isProtectedPcie === true || multiGpuMode === 'protected-pcie';
  return kind === 'gpu' && (isInMode || switchOfLink !== null);
}

function boardOf(devices: readonly AppraisedDevice[]): Board {
  const gpus: Gpu[] = [];
  const switches: Switch[] = [];
  for (const { subject, pdi, report } of devices) {
    const { place, switchOfLink, multiGpuMode, isProtectedPcie } = report;
    if (place !== null) switches.push({ subject, pdi, place });
    if (report.kind !== 'gpu') continue;
    const isProtected = isProtectedPcie === true && multiGpuMode !== 'single';
    gpus.push({ subject, pdi, links: switchOfLink ?? [], isProtectedPcie: isProtected });
  }
  return { gpus, switches };
}

function demandWhole({ gpus, switches }: Board): void {
  const seen = `${gpus.length} GPUs and ${switches.length} switches with their places`;
  const isWhole = gpus.length === BOARD_GPUS && switches.length === BOARD_SWITCHES;
  const wanted = `${BOARD_GPUS} and ${BOARD_SWITCHES}`;
  demand(isWhole, 'set-incomplete', `there are ${seen}, a board has ${wanted}`);
  const distinct = new Set([...gpus, ...switches].map(({ pdi, subject }) => pdi ?? subject));
  const isDistinct = distinct.size === BOARD_GPUS + BOARD_SWITCHES;
  demand(isDistinct, 'set-incomplete', 'one device is there more than once');
}

function demandProtected({ gpus, switches }: Board): void {
  const gpu = gpus.find(({ isProtectedPcie }) => !isProtectedPcie);
  demand(gpu === undefined, 'mode-refused', `${gpu?.subject} is not in Protected PCIe mode`);
  const open = switches.find(({ place }) => !place.isLocked);
  demand(open === undefined, 'mode-refused', `${open?.subject} is not locked`);
}

function demandLinked({ gpus, switches }: Board): void {
  const gpuPdis = new Set(gpus.map(({ pdi }) => pdi));
  const switchPdis = new Set(switches.map(({ pdi }) => pdi));
  for (const { subject, links } of gpus) {
    demandSame(subject, new Set(links.filter((pdi) => pdi !== null)), switchPdis, 'switches');
  }
  for (const { subject, place } of switches) {
    demandSame(subject, new Set(place.gpuPdis), gpuPdis, 'GPUs');
  }
}

function demandSame(
  subject: string,
  named: ReadonlySet<string | null>,
  there: ReadonlySet<string | null>,
  what: string,
): void {
  const isSame = named.size === there.size && [...named].every((pdi) => there.has(pdi));
  demand(isSame, 'topology-mismatch', `${subject} is linked to other ${what} than those shown`);
}

function demandPositions({ switches }: Board): void {
  const positions = switches.map(({ place }) => place.position);
  const isComplete = switches.every((_, position) => positions.includes(position));
  demand(isComplete, 'topology-mismatch', `the switches have positions ${positions.join(', ')}`);
}

/** By the GPU's subject: its module id, or null where its links are no module's. */
function slotsOf({ gpus, switches }: Board): Map<string, number | null> {
  const numbers = new Map(switches.map(({ pdi, place }) => [pdi, place.position + 1]));
  return new Map(
    gpus.map(({ subject, links }) => {
      const far = links.map((pdi) => (pdi === null ? 0 : (numbers.get(pdi) ?? 0)));
      return [subject, moduleOfLinks(far)];
    }),
  );
}

function demandSlots(slots: ReadonlyMap<string, number | null>): void {
  const taken = new Set<number>();
  for (const [subject, slot] of slots) {
    demand(slot !== null, 'topology-mismatch', `${subject}'s links are those of no slot`);
    demand(!taken.has(slot), 'topology-mismatch', `${subject} is in slot ${slot}, as another is`);
    taken.add(slot);
  }
}

interface PortComparison {
  readonly agreeing: number;
  /** What is wrong with the first port that does not agree, or null. */
  readonly problem: string | null;
}

/** Ports that a report does not list, or of which the table knows nothing, count for neither. */
function comparePorts(board: Board, slots: ReadonlyMap<string, number | null>): PortComparison {
  const moduleOf = new Map(board.gpus.map(({ pdi, subject }) => [pdi, slots.get(subject) ?? null]));
  let agreeing = 0;
  let problem: string | null = null;
  for (const { subject, place } of board.switches) {
    const number = place.position + 1;
    const expected = modulesOfPorts(number);
    const used = new Map<number, number>();
    for (const [port, gpu] of place.gpuOfPort.entries()) {
      if (gpu === null) continue;
      const seen = moduleOf.get(place.gpuPdis[gpu]!) ?? null;
      if (seen === null) throw new AttestError('topology-mismatch', `${subject}: no GPU ${gpu}`);
      used.set(seen, (used.get(seen) ?? 0) + 1);
      const wanted = expected[port] ?? null;
      if (wanted === seen) agreeing++;
      const isOther = wanted !== null && wanted !== seen;
      if (isOther) problem ??= `${subject}'s port ${port} leads to module ${seen}, not ${wanted}`;
    }
    for (const [moduleId, count] of used) {
      const links = switchesOfModule(moduleId).filter((one) => one === number).length;
      if (count > links) problem ??= `${subject} has ${count} ports for module ${moduleId}`;
    }
  }
  return { agreeing, problem };
}

function demandPorts({ problem }: PortComparison): void {
  demand(problem === null, 'topology-mismatch', problem ?? '');
}
