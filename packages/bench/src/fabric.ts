import { hash32 } from '@bridgekeeper/device';
import { type HostOffer, plan } from '@bridgekeeper/fabric';
import { type MeasuredRun, summarise } from '@bridgekeeper/report';
import { flag, integer } from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import type { Suite } from './suite.ts';

const FLAGS = {
  hosts: flag(integer(1, 1_000_000), 10_000, 'hosts to place on'),
  repeats: flag(integer(1, 100), 5, 'plans of each size, each over other hosts'),
};

const GPUS = [1, 2, 4, 8];
const MODULES = [1, 2, 3, 4, 5, 6, 7, 8];

/** B200 and B300, from Fabric Manager’s guide. */
const TABLE = [
  { id: 1, modules: MODULES },
  { id: 2, modules: [1, 2, 3, 4] },
  { id: 3, modules: [5, 6, 7, 8] },
  ...[1, 3, 5, 7].map((first, index) => ({ id: 4 + index, modules: [first, first + 1] })),
  ...MODULES.map((module) => ({ id: 7 + module, modules: [module] })),
];

/** What placing a tenancy over many hosts takes. */
export const FABRIC_SUITE: Suite<typeof FLAGS> = {
  name: 'fabric',
  summary: 'placing a tenancy over many hosts',
  flags: FLAGS,
  async run({ hosts, repeats }, progress) {
    const runs: MeasuredRun[] = [];
    for (const gpus of GPUS) {
      const passes = Array.from({ length: repeats }, (_, repeat) => {
        const offers = offersOf(hosts, repeat * GPUS.length + gpus);
        const before = process.cpuUsage();
        const startedNs = HOST_CLOCK.nowNs();
        const { fits } = plan(requestFor(gpus), offers);
        const milliseconds = (HOST_CLOCK.nowNs() - startedNs) / 1e6;
        // What others have of the processor is not in it.
        const { user, system } = process.cpuUsage(before);
        const cpuMilliseconds = (user + system) / 1000;
        return { planMilliseconds: milliseconds, cpuMilliseconds, fits: fits ? 1 : 0 };
      });
      progress(`${gpus} GPUs: ${passes.at(-1)!.planMilliseconds.toFixed(1)} ms`);
      runs.push(summarise({ hosts, gpus }, passes));
    }
    return { device: { name: 'none', driver: null }, runs };
  },
};

function requestFor(gpus: number) {
  return {
    gpus,
    platform: 'b300',
    driverVersion: null,
    grades: ['host'],
    tokens: 1e6,
    evidenceMaxAgeSeconds: null,
  } as const;
}

/** Hosts of which half the modules are claimed, and a few are out of service. */
function offersOf(hosts: number, seed: number): HostOffer[] {
  return Array.from({ length: hosts }, (_, index) => {
    const draw = (what: number) => (hash32(seed, index, what) >>> 0) / 2 ** 32;
    return {
      host: `host-${index}`,
      platform: draw(100) < 0.9 ? 'b300' : 'h200',
      fmVersion: '590.48.01',
      driverVersion: draw(101) < 0.95 ? '590.48.01' : '580.95.05',
      table: TABLE,
      claimed: MODULES.filter((module) => draw(module) < 0.5),
      quarantined: MODULES.filter((module) => draw(20 + module) < 0.01),
      isFrozen: draw(102) < 0.01,
      grade: 'host',
      coldStartSeconds: 60 + 120 * draw(103),
      evidenceAgeSeconds: null,
      bridgeSecondsPerToken: 1e-5 * draw(104),
    };
  });
}
