import type { Server, ServerUnaryCall, sendUnaryData } from '@grpc/grpc-js';

/** NMX-C from NVIDIA's own description, with partitions in memory and a fault to meet. */
export class FakeController {
  readonly partitions = new Map<number, { gpus: object[]; health: string }>();
  fault: string | null = null;
  /** What happens when a call gets no answer: its time is over. */
  onHang: () => void = () => undefined;
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

/** A server of it on the loopback address. */
export interface ServedController {
  readonly controller: FakeController;
  readonly port: number;
  close(): void;
}

/** Serves NVIDIA's description, by a copy of your own: its licence lets nobody give it out. */
export async function serveController(protoPath: string): Promise<ServedController> {
  const [grpc, loader] = await Promise.all([import('@grpc/grpc-js'), import('@grpc/proto-loader')]);
  const options = { keepCase: true, longs: Number, enums: String };
  const { nmx_c } = grpc.loadPackageDefinition(loader.loadSync(protoPath, options)) as never as {
    nmx_c: { NMX_Controller: { service: Parameters<Server['addService']>[0] } };
  };
  const controller = new FakeController();
  const server = new grpc.Server();
  server.addService(nmx_c.NMX_Controller.service, controller.methods as never);
  const port = await new Promise<number>((resolve, reject) => {
    const insecure = grpc.ServerCredentials.createInsecure();
    server.bindAsync('127.0.0.1:0', insecure, (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return { controller, port, close: () => server.forceShutdown() };
}
