import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What a test may make go wrong with the next call. */
type Fault = 'refuse' | 'lose-answer' | null;

/**
 * A dstack-vmm by its public description (`vmm_rpc.proto`): the methods that we call, in JSON, with
 * its fields and the states that it names. It starts nothing.
 */
export async function startDstackVmm(token: string | null) {
  const vms = new Map<string, Record<string, unknown> & { id: string; status: string }>();
  let fault: Fault = null;
  const call = (method: string, body: Record<string, unknown>): object | null => {
    const { id } = body as { id: string };
    const one = vms.get(id);
    switch (method) {
      case 'CreateVm': {
        const made = randomUUID();
        vms.set(made, {
          id: made,
          name: body.name,
          status: 'running',
          boot_progress: 'booting',
          boot_error: '',
          shutdown_progress: '',
          configuration: body,
        });
        return { id: made };
      }
      case 'Status':
        return { vms: [...vms.values()], total: vms.size };
      case 'ShutdownVm':
        if (one !== undefined) one.shutdown_progress = 'powering off';
        return one === undefined ? null : {};
      case 'StopVm':
        if (one !== undefined) one.status = 'stopped';
        return one === undefined ? null : {};
      case 'RemoveVm':
        if (one === undefined || one.status === 'running') return null;
        vms.delete(id);
        return {};
      default:
        return null;
    }
  };
  const server = createServer(async (request, response) => {
    const method = /^\/prpc\/(\w+)\?json$/.exec(request.url ?? '')?.[1] ?? '';
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    if (token !== null && request.headers.authorization !== `Bearer ${token}`) {
      response.writeHead(401).end();
      return;
    }
    const now = fault;
    fault = null;
    if (now === 'refuse') {
      response.writeHead(400, { 'content-type': 'application/json' });
      response.end('{"error":"no resources"}');
      return;
    }
    const answer = call(method, JSON.parse(Buffer.concat(parts).toString('utf8') || '{}'));
    if (now === 'lose-answer') {
      request.socket.destroy();
      return;
    }
    response.writeHead(answer === null ? 400 : 200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(answer ?? { error: 'not found' }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    vms,
    fail: (next: Fault) => {
      fault = next;
    },
    /** Time passes for all guests: what boots is up, what stops is down. */
    settle: () => {
      for (const one of vms.values()) {
        if (one.status === 'running') one.boot_progress = 'done';
        if (one.shutdown_progress !== '') one.status = 'stopped';
      }
    },
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
