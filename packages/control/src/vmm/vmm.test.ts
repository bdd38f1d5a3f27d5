import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SYSTEM_TIME } from '../system.ts';
import { startDstackVmm } from '../testing/dstack-vmm.ts';
import { DstackVmm } from './dstack.ts';
import { pretendedFacts } from './pretended.ts';
import { ProcessVmm } from './process.ts';
import type { Guest, GuestSpec, Vmm } from './vmm.ts';

const SPEC: GuestSpec = {
  replica: 'rep_01m8mdytegnhfv7zk29qcntz9e',
  epoch: 1,
  image: 'trial',
  models: ['story'],
  modules: [1, 2],
  partition: 3,
  credential: 'secret',
  inFlightMax: 4,
};
const OTHER = { ...SPEC, replica: 'rep_01m8mdytegnhfv7zk29qcntz9f', modules: [3] };

/** What a test has besides a VMM: another one over the same guests, and time. */
interface Bench {
  readonly open: () => Vmm;
  readonly settle: () => Promise<void>;
  readonly close: () => void;
}

/** What every VMM promises. */
function contract(start: () => Promise<Bench>) {
  let bench: Bench;
  let vmm: Vmm;
  beforeEach(async () => {
    bench = await start();
    vmm = bench.open();
  });
  afterEach(async () => {
    for (const { replica } of await vmm.list()) await gone(replica);
    bench.close();
  });

  async function until(holds: (guests: readonly Guest[]) => boolean): Promise<readonly Guest[]> {
    for (let round = 0; round < 400; round += 1) {
      const guests = await vmm.list();
      if (holds(guests)) return guests;
      await bench.settle();
    }
    return expect.fail('it did not come about');
  }
  const running = (replica: string) =>
    until((guests) => guests.find((one) => one.replica === replica)?.state === 'running');
  async function gone(replica: string): Promise<void> {
    for (let round = 0; round < 400; round += 1) {
      await vmm.remove(replica);
      if (!(await vmm.list()).some((one) => one.replica === replica)) return;
      await bench.settle();
    }
    expect.fail('it is still there');
  }

  it('has nothing at first', async () => {
    expect(await vmm.list()).toEqual([]);
    expect((await vmm.facts()).gpus).toHaveLength(8);
  });

  it('starts a guest, and says where it answers', async () => {
    await vmm.create(SPEC);
    const [guest] = await running(SPEC.replica);
    expect(guest!.address).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
  });

  it('never makes a second one of the same replica', async () => {
    await vmm.create(SPEC);
    await vmm.create(SPEC);
    await running(SPEC.replica);
    await vmm.create(SPEC);
    expect(await vmm.list()).toHaveLength(1);
  });

  it('shows its guests to who comes after it', async () => {
    await vmm.create(SPEC);
    await running(SPEC.replica);
    vmm = bench.open();
    expect(await vmm.list()).toMatchObject([{ replica: SPEC.replica, state: 'running' }]);
    await vmm.create(SPEC);
    expect(await vmm.list()).toHaveLength(1);
  });

  it('gives guests addresses of their own', async () => {
    await vmm.create(SPEC);
    await vmm.create(OTHER);
    await running(SPEC.replica);
    const guests = await running(OTHER.replica);
    expect(new Set(guests.map(({ address }) => address)).size).toBe(2);
  });

  it('removes one guest and no other, and what is not there, too', async () => {
    await vmm.create(SPEC);
    await vmm.create(OTHER);
    await running(OTHER.replica);
    await gone(SPEC.replica);
    await vmm.remove(SPEC.replica);
    expect((await vmm.list()).map(({ replica }) => replica)).toEqual([OTHER.replica]);
  });

  it('says of a guest that was asked to end once that it has ended', async () => {
    await vmm.create(SPEC);
    await running(SPEC.replica);
    await vmm.remove(SPEC.replica);
    await until(([guest]) => guest === undefined || guest.state === 'failed');
    await vmm.remove(SPEC.replica);
    expect(await vmm.list()).toEqual([]);
  });

  it('starts nothing of an image that the host does not name', async () => {
    await vmm.create({ ...SPEC, image: 'rm -rf' }).catch(() => undefined);
    expect((await vmm.list()).filter(({ state }) => state !== 'failed')).toEqual([]);
  });
}

describe('guests that are processes', () => {
  const server = `require('node:http').createServer().listen(0, '127.0.0.1', function () {
    console.log('http://127.0.0.1:' + this.address().port);
  })`;
  contract(async () => {
    const folder = mkdtempSync(join(tmpdir(), 'bk-guests-'));
    const program = join(folder, 'server.cjs');
    writeFileSync(program, server);
    return {
      open: () =>
        new ProcessVmm({
          folder: join(folder, 'guests'),
          facts: pretendedFacts('host'),
          images: { trial: { program: process.execPath, arguments: [program] } },
          environment: {},
        }),
      settle: () => SYSTEM_TIME.sleep(20),
      close: () => rmSync(folder, { recursive: true, force: true }),
    };
  });
});

describe('guests of dstack-vmm, by its API’s description', () => {
  let fake: Awaited<ReturnType<typeof startDstackVmm>>;
  const open = () =>
    new DstackVmm({
      url: fake.url,
      token: 'token',
      images: {
        trial: {
          image: 'dstack-nvidia',
          composeFile: '{}',
          vcpus: 8,
          memoryMib: 65_536,
          diskGib: 100,
          port: 8000,
        },
      },
      slots: { 1: '1b:00.0', 2: '43:00.0', 3: '52:00.0' },
      facts: async () => pretendedFacts('host'),
      ports: { host: '127.0.0.1', first: 20_000, count: 2 },
      deadline: () => new AbortController().signal,
    });
  contract(async () => {
    fake = await startDstackVmm('token');
    return { open, settle: async () => fake.settle(), close: () => fake.close() };
  });

  it('gives the guest the slots of its modules', async () => {
    await open().create(SPEC);
    const [vm] = [...fake.vms.values()];
    expect(vm!.configuration).toMatchObject({
      gpus: { attach_mode: 'listed', gpus: [{ slot: '1b:00.0' }, { slot: '43:00.0' }] },
    });
  });

  it('finds a guest whose creation was not answered', async () => {
    fake.fail('lose-answer');
    // The first call is the look whether there is one.
    await expect(open().create(SPEC)).rejects.toMatchObject({ code: 'vmm-unavailable' });
    await open().create(SPEC);
    await open().create(SPEC);
    expect(fake.vms.size).toBe(1);
  });

  it('says what it refuses, and what is not known', async () => {
    fake.fail('refuse');
    await expect(open().list()).rejects.toMatchObject({ code: 'vmm-refused' });
    const unknown = open().create({ ...SPEC, modules: [8] });
    await expect(unknown).rejects.toMatchObject({ code: 'vmm-refused' });
    await open().create(SPEC);
    await open().create(OTHER);
    const third = { ...SPEC, replica: `${SPEC.replica.slice(0, -1)}g` };
    await expect(open().create(third)).rejects.toThrow('all 2 ports');
  });

  it('says why a guest failed', async () => {
    await open().create(SPEC);
    const [vm] = [...fake.vms.values()];
    vm!.boot_error = 'gpu attestation failed';
    expect(await open().list()).toMatchObject([
      { state: 'failed', progress: 'gpu attestation failed' },
    ]);
  });
});
