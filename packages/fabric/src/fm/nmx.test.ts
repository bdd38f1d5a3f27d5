import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type FakeController, type ServedController, serveController } from '../testing.ts';
import { type NmxOptions, nmxManager, readRack } from './nmx.ts';

/** NVIDIA's description, whose licence lets nobody give it out: a copy of your own. */
const protoPath = process.env.BRIDGEKEEPER_NMX_PROTO ?? '';
const hasProto = protoPath !== '';
if (!hasProto) {
  const missing = 'there is no nmx_c.proto (BRIDGEKEEPER_NMX_PROTO names it)';
  process.stderr.write(`Not tested, as ${missing}: NMX-C.\n`);
}

const RACK = readRack(
  JSON.stringify({
    places: [1, 2, 3, 4].map((module) => ({ module, chassis: 1, slot: 7, host: 1, gpu: module })),
    partitions: [
      { id: 101, modules: [1, 2, 3, 4] },
      { id: 102, modules: [1, 2] },
      { id: 103, modules: [3, 4] },
    ],
  }),
)!;

test('a rack’s table names each place and module once, and only modules that have places', () => {
  const change = (edit: (rack: typeof RACK) => void) => {
    const rack = structuredClone(RACK);
    edit(rack);
    return readRack(JSON.stringify(rack));
  };
  expect(change(() => undefined)).toEqual(RACK);
  expect(change(({ places }) => places.push(places[0]!))).toBeNull();
  expect(change(({ places }) => places.push({ ...places[0]!, module: 5 }))).toBeNull();
  expect(change(({ partitions }) => partitions.push({ id: 9, modules: [5] }))).toBeNull();
  expect(change(({ partitions }) => partitions.push({ id: 9, modules: [1, 1] }))).toBeNull();
  expect(change(({ partitions }) => partitions.push({ id: 101, modules: [1] }))).toBeNull();
  expect(readRack('{}')).toBeNull();
});

describe.skipIf(!hasProto)('a rack by NMX-C', () => {
  let served: ServedController;
  let controller: FakeController;
  let options: NmxOptions;

  beforeAll(async () => {
    served = await serveController(protoPath);
    ({ controller } = served);
    options = {
      address: `127.0.0.1:${served.port}`,
      protoPath,
      rack: RACK,
      tls: null,
      component: 'fabricmanager',
      after: () => () => undefined,
    };
  });
  afterAll(() => served.close());

  const active = async () =>
    (await nmxManager(options).partitions()).filter((each) => each.isActive).map(({ id }) => id);

  test('creates, lists and deletes partitions, and says what is already so', async () => {
    const rack = nmxManager(options);
    expect(await rack.version()).toBe('590.48.01');
    expect((await rack.partitions()).map(({ id, isActive }) => [id, isActive])).toEqual([
      [101, false],
      [102, false],
      [103, false],
    ]);
    await rack.activate(102);
    expect(await active()).toEqual([102]);
    await expect(rack.activate(102)).rejects.toMatchObject({ code: 'fm-refused', status: -7 });
    await expect(rack.activate(101)).rejects.toMatchObject({ status: -12 });
    await expect(rack.activate(9)).rejects.toMatchObject({ status: -1 });
    await rack.deactivate(102);
    await expect(rack.deactivate(102)).rejects.toMatchObject({ status: -13 });
    expect(await active()).toEqual([]);
  });

  test('shows what others made of its GPUs, also under an id of its own', async () => {
    const gpu = (slot: number, id: number) => ({
      loc: { chassis_id: 1, slot_id: slot, host_id: 1 },
      gpu_id: id,
    });
    const health = 'NMX_PARTITION_HEALTH_HEALTHY';
    controller.partitions.set(500, { gpus: [gpu(7, 1), gpu(8, 1)], health });
    controller.partitions.set(103, { gpus: [gpu(7, 3)], health });
    controller.partitions.set(600, { gpus: [gpu(9, 1)], health });
    const found = (await nmxManager(options).partitions()).filter((each) => each.isActive);
    expect(found.map(({ id, modules }) => [id, modules])).toEqual([
      [500, [1]],
      [103 + 2 ** 20, [3]],
    ]);
    controller.partitions.clear();
    const [one, two] = [gpu(7, 1), gpu(7, 2)];
    controller.partitions.set(102, { gpus: [one, two], health: 'NMX_PARTITION_HEALTH_DEGRADED' });
    const degraded = (await nmxManager(options).partitions()).find(({ id }) => id === 102)!;
    expect([degraded.isActive, degraded.links[0]]).toEqual([true, { available: 0, possible: 1 }]);
    controller.partitions.clear();
  });

  test.each<[string, string, number | null, boolean]>([
    ['unanswered-before', 'fm-unanswered', null, false],
    ['lost-reply', 'fm-unanswered', null, true],
    ['refuse', 'fm-refused', -2, true],
    ['not-ready', 'fm-refused', -22, true],
  ])('a call that meets %s is %s, and may have had its effect', async (fault, code, status, is) => {
    controller.partitions.clear();
    controller.fault = fault;
    await expect(nmxManager(options).activate(102)).rejects.toMatchObject({ code, status });
    expect((await active()).length === 1).toBe(is);
    controller.partitions.clear();
  });

  test('another version, a count that is none of its list, and silence are refused', async () => {
    const rack = nmxManager({
      ...options,
      after: (_, action) => {
        controller.onHang = action;
        return () => undefined;
      },
    });
    controller.fault = 'version';
    await expect(nmxManager(options).version()).rejects.toMatchObject({ code: 'fm-version' });
    const other = nmxManager({ ...options, component: 'x' });
    await expect(other.version()).rejects.toThrow('no component x; it has: fabricmanager');
    await nmxManager(options).activate(102);
    controller.fault = 'miscount';
    await expect(nmxManager(options).partitions()).rejects.toMatchObject({
      code: 'fm-out-of-bounds',
    });
    controller.fault = 'hang';
    await expect(rack.deactivate(102)).rejects.toMatchObject({ code: 'fm-unanswered' });
    const away = nmxManager({ ...options, address: '192.0.2.1:9370' });
    await expect(away.version()).rejects.toThrow('needs certificates');
    const none = nmxManager({ ...options, protoPath: '/none.proto' });
    await expect(none.version()).rejects.toMatchObject({ code: 'fm-missing' });
  });
});
