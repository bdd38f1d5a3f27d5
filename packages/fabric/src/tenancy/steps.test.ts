import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { DOWN_ORDERS, PHASES, type Phase, type Tenancy } from './state.ts';
import { nextPhase, STEPS } from './steps.ts';

const TENANCY: Tenancy = {
  id: 'a',
  tenant: 'aurora-bank',
  modules: [1, 2],
  order: 'stop-first',
  guest: { image: 'image', memoryBytes: 1 },
  epoch: 1,
  salt: '0'.repeat(64),
  partition: 4,
  phase: 'requested',
  isIntended: false,
  begunNs: 0,
  leaving: null,
  sanitizedUnder: null,
  evidence: null,
};

function pathOf(start: Tenancy): Phase[] {
  const path: Phase[] = [];
  for (let phase = nextPhase(start); phase !== null; ) {
    path.push(phase);
    phase = nextPhase({ ...start, phase });
  }
  return path;
}

describe('the path of a tenancy', () => {
  it('goes up through every phase before it is admitted', () => {
    expect(pathOf(TENANCY)).toEqual(PHASES.slice(1, PHASES.indexOf('admitted') + 1));
  });

  it.each(DOWN_ORDERS)('ends in its release wherever it turns, %s', (order) => {
    for (const phase of PHASES.slice(0, -1)) {
      for (const guest of [TENANCY.guest, null]) {
        const path = pathOf({ ...TENANCY, order, guest, phase, leaving: 'why' });
        expect(path.at(-1)).toBe('released');
        expect(new Set(path).size).toBe(path.length);
      }
    }
  });

  it('deactivates before or after the VM stops, as it was told', () => {
    const down = { ...TENANCY, phase: 'admitted', leaving: 'why' } as const;
    const [stop, deactivate] = DOWN_ORDERS.map((order) => {
      const path = pathOf({ ...down, order });
      return path.indexOf('deactivated') - path.indexOf('stopping');
    });
    expect(stop).toBeGreaterThan(0);
    expect(deactivate).toBeLessThan(0);
  });

  it('deactivates whatever may have been activated', () => {
    for (const phase of PHASES.slice(PHASES.indexOf('sanitized'), PHASES.indexOf('admitted'))) {
      expect(pathOf({ ...TENANCY, phase, leaving: 'why' })).toContain('deactivated');
    }
  });
});

describe('the page about it', () => {
  it('says of each step what a restart does, in the words of the code', () => {
    const page = new URL('../../../../docs/internals/fabric.md', import.meta.url);
    const rows = Object.entries(STEPS).map(
      ([phase, { restart }]) => `| \`${phase}\` | ${restart} |`,
    );
    expect(readFileSync(page, 'utf8')).toContain(rows.join('\n'));
  });
});
