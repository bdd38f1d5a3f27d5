import type { Server, ServerUnaryCall, sendUnaryData } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
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

/** NMX-C from NVIDIA's own description, with partitions in memory and a fault to meet. */
class FakeController {
  readonly partitions = new Map<number, { gpus: object[]; health: string }>();
  fault: string | null = null;
  /** What happens when a call gets no answer: its time is over. */
  onHang: () => void = () => undefined;
  readonly server: Server;

  constructor(server: Server) {
    this.server = server;
  }

  /** Whether this call meets it; it is then used up. */
  meets(fault: string): boolean {
    if (this.fault !== fault) return false;
    this.fault = null;
    return true;
  }

  get methods() {
    type Call = ServerUnaryCall<Record<string, unknown>, object>;
    type Done = sendUnaryData<object>;
    const UNAVAILABLE = 14;
    const answer = (done: Done, code: string, more: object = {}) => {
      if (this.meets('refuse'))
        return done(null, { server_header: { return_code: 'NMX_ST_GENERIC_ERROR' } });
      if (this.meets('not-ready'))
        return done(null, { server_header: { return_code: 'NMX_ST_NOT_READY' } });
      if (this.meets('lost-reply')) return done({ code: UNAVAILABLE, details: 'gone' });
      if (this.meets('hang')) return this.onHang();
      done(null, { server_header: { return_code: code }, ...more });
    };
    const idOf = ({ request }: Call) =>
      Number((request.partition_id as { partition_id: number }).partition_id);
    return {
      Hello: (_: Call, done: Done) =>
        answer(done, 'NMX_ST_SUCCESS', {
          major_version: this.meets('version')
            ? 'PROTO_MSG_MAJOR_VERSION_OBSOLETE1'
            : 'PROTO_MSG_MAJOR_VERSION',
          components_ver: [{ key: 'fabricmanager', value: '590.48.01' }],
        }),
      GetPartitionInfoList: (_: Call, done: Done) =>
        answer(done, 'NMX_ST_SUCCESS', {
          partition_info_list: [...this.partitions].map(([id, { gpus, health }]) => ({
            partition_id: { partition_id: id },
            num_gpus: gpus.length + (this.meets('miscount') ? 1 : 0),
            gpu_location_list: gpus,
            gpu_uid_list: [],
            health,
          })),
        }),
      CreatePartition: (call: Call, done: Done) => {
        if (this.meets('unanswered-before')) return done({ code: UNAVAILABLE, details: 'gone' });
        const id = idOf(call);
        const gpus = (call.request.gpu_resource_id as { gpu_location: object }[]).map(
          ({ gpu_location }) => gpu_location,
        );
        const taken = [...this.partitions.values()].flatMap((each) => each.gpus);
        const overlaps = gpus.some((gpu) =>
          taken.some((other) => JSON.stringify(other) === JSON.stringify(gpu)),
        );
        if (this.partitions.has(id)) return answer(done, 'NMX_ST_PARTITION_ID_IN_USE');
        if (overlaps) return answer(done, 'NMX_ST_RESOURCE_IN_USE');
        this.partitions.set(id, { gpus, health: 'NMX_PARTITION_HEALTH_HEALTHY' });
        answer(done, 'NMX_ST_SUCCESS');
      },
      DeletePartition: (call: Call, done: Done) => {
        const isThere = this.partitions.delete(idOf(call));
        answer(done, isThere ? 'NMX_ST_SUCCESS' : 'NMX_ST_PARTITION_ID_NOT_IN_USE');
      },
    };
  }
}

describe.skipIf(!hasProto)('a rack by NMX-C', () => {
  let controller: FakeController;
  let options: NmxOptions;

  beforeAll(async () => {
    const grpc = await import('@grpc/grpc-js');
    const loader = await import('@grpc/proto-loader');
    const definition = loader.loadSync(protoPath, {
      keepCase: true,
      longs: Number,
      enums: String,
    });
    const { nmx_c } = grpc.loadPackageDefinition(definition) as never as {
      nmx_c: { NMX_Controller: { service: Parameters<Server['addService']>[0] } };
    };
    controller = new FakeController(new grpc.Server());
    controller.server.addService(nmx_c.NMX_Controller.service, controller.methods as never);
    const port = await new Promise<number>((resolve, reject) => {
      const insecure = grpc.ServerCredentials.createInsecure();
      controller.server.bindAsync('127.0.0.1:0', insecure, (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
    options = {
      address: `127.0.0.1:${port}`,
      protoPath,
      rack: RACK,
      tls: null,
      component: 'fabricmanager',
      after: () => () => undefined,
    };
  });
  afterAll(() => controller.server.forceShutdown());

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
