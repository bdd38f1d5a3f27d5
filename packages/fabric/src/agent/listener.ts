import type { IncomingMessage, RequestListener } from 'node:http';
import { z } from 'zod';
import { FabricError, type FabricErrorCode } from '../errors.ts';
import type { AgentState } from '../tenancy/state.ts';
import type { Agent } from './agent.ts';
import type { AgentCommands } from './commands.ts';
import { withoutTenancy, withTenancy } from './run.ts';

const REQUEST_BYTES_MAX = 2 ** 20;

const wanted = z.strictObject({
  id: z.string().min(1).max(100),
  tenant: z.string().min(1).max(200),
  modules: z.array(z.int().min(1).max(16)).min(1).max(16),
  order: z.enum(['stop-first', 'deactivate-first']),
});
const toClear = z.strictObject({ modules: z.array(z.int().min(1).max(16)).min(1).max(16) });
const table = z.strictObject({ table: z.string().regex(/^[0-9a-f]{64}$/) });

/** How an HTTP status tells what kind of failure it is; others are 500. */
const STATUSES: Readonly<Partial<Record<FabricErrorCode, number>>> = {
  'bad-desired': 400,
  'bad-plan': 400,
  'does-not-fit': 409,
  'stale-epoch': 409,
  'needs-restart': 409,
  'fm-unanswered': 503,
  'disk-full': 507,
};

export interface AgentView {
  /** What is so now, by a look: a document as `fabric status --json` prints it. */
  status(): Promise<unknown>;
  /** Between two rounds: what the agent knows. */
  state(): AgentState;
}

/**
 * The agent's own socket: whoever may open it is this host's operator. `/v1/status`, `/v1/state`,
 * `/v1/desired`, `/v1/tenancies`, `/v1/clear`, `/v1/maintain`; JSON in, JSON out.
 */
export function agentListener(view: AgentView, commands: AgentCommands): RequestListener {
  const act = async (request: IncomingMessage): Promise<unknown> => {
    const { method, url = '' } = request;
    const route = `${method} ${url.replace(/^\/v1\/tenancies\/.*$/, '/v1/tenancies/')}`;
    const change = async (of: (agent: Agent, body: unknown) => Promise<void>) => {
      const body = method === 'DELETE' ? null : await readJson(request);
      await commands.run((agent) => of(agent, body));
      return { done: true };
    };
    switch (route) {
      case 'GET /v1/status':
        return view.status();
      case 'GET /v1/state':
        return view.state();
      case 'PUT /v1/desired':
        return change((agent, body) => agent.apply(body));
      case 'POST /v1/tenancies':
        return change(async (agent, body) => {
          const { modules, ...rest } = read(wanted, body);
          const ascending = modules.toSorted((a, b) => a - b);
          await agent.apply(withTenancy(agent.state, { ...rest, modules: ascending, guest: null }));
        });
      case 'DELETE /v1/tenancies/':
        return change(async (agent) => {
          await agent.apply(withoutTenancy(agent.state, idOf(url)));
        });
      case 'POST /v1/clear':
        return change((agent, body) => agent.clear(read(toClear, body).modules));
      case 'POST /v1/maintain':
        return change((agent, body) => agent.maintain(read(table, body).table));
      default:
        return null;
    }
  };
  return async (request, response) => {
    const end = (status: number, body: unknown) => {
      const head = { 'content-type': 'application/json', 'cache-control': 'no-store' };
      response.writeHead(status, head).end(JSON.stringify(body));
    };
    try {
      const answer = await act(request);
      if (answer === null) end(404, errorOf('bad-desired', 'the agent has no such path'));
      else end(200, answer);
    } catch (error) {
      if (!(error instanceof FabricError)) {
        response.destroy();
        if (error instanceof Gone) return;
        throw error;
      }
      end(STATUSES[error.code] ?? 500, errorOf(error.code, error.message, error.status));
    }
  };
}

/** The client left: there is nobody to tell. */
class Gone extends Error {}

function errorOf(code: FabricErrorCode, message: string, status: number | null = null) {
  return { error: { code, message, status } };
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const piece of request) {
      bytes += (piece as Buffer).length;
      if (bytes > REQUEST_BYTES_MAX) break;
      pieces.push(piece as Buffer);
    }
  } catch (cause) {
    throw new Gone('the client left', { cause });
  }
  if (bytes > REQUEST_BYTES_MAX) {
    throw new FabricError('bad-desired', `at most ${REQUEST_BYTES_MAX} bytes are read`);
  }
  try {
    return JSON.parse(Buffer.concat(pieces).toString());
  } catch (cause) {
    throw new FabricError('bad-desired', 'what was sent is no JSON', { cause });
  }
}

/** Throws FabricError 'bad-desired'. */
function idOf(url: string): string {
  try {
    return decodeURIComponent(url.slice('/v1/tenancies/'.length));
  } catch (cause) {
    throw new FabricError('bad-desired', `${JSON.stringify(url)} names no tenancy`, { cause });
  }
}

function read<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new FabricError('bad-desired', `${issue!.path.join('.')}: ${issue!.message}`);
}
