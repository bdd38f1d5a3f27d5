import { X509Certificate } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import type { Admission } from '../admission.ts';
import {
  HostDesired,
  HostObservation,
  JoinAnswer,
  JoinRequest,
  RenewRequest,
} from '../api/agent.ts';
import type { Call } from '../api/routes.ts';
import { ControlError } from '../errors.ts';
import { admit, challengeNonce } from '../fleet/admit.ts';
import { desiredOf } from '../fleet/desired.ts';
import { observe, type Shown } from '../fleet/observe.ts';
import type { Term } from '../lead/term.ts';
import type { Time } from '../time.ts';
import { spkiSha256 } from './authority.ts';
import type { CallerId, Handlers } from './handlers.ts';
import type { JoinTokens } from './join.ts';
import type { Watch } from './watch.ts';

/** How long a request for what is desired waits for something new. */
const POLL_MS = 20_000;

/** What agents call, over TLS with their certificates; `join` comes before there is one. */
export const AGENT_CALLS = {
  desired: {
    method: 'get',
    path: '/agent/v1/desired',
    summary: 'What shall be on this host; waits until it is other than `epoch` and `sequence`',
    callers: ['agent'],
    query: z.object({ epoch: z.coerce.number().int(), sequence: z.coerce.number().int() }),
    response: HostDesired,
  },
  observe: {
    method: 'post',
    path: '/agent/v1/observations',
    summary: 'What is on this host',
    callers: ['agent'],
    body: HostObservation,
    response: z.object({}),
  },
  renew: {
    method: 'post',
    path: '/agent/v1/certificate',
    summary: 'A new certificate for the key of the old one',
    callers: ['agent'],
    body: RenewRequest,
    response: JoinAnswer,
  },
} satisfies Readonly<Record<string, Call>>;

export const JOIN_CALL = {
  method: 'post',
  path: '/agent/v1/join',
  summary: 'A token for a certificate',
  callers: ['agent'],
  body: JoinRequest,
  response: JoinAnswer,
} satisfies Call;

export interface AgentContext {
  readonly admission: Admission;
  readonly tokens: () => JoinTokens;
  readonly time: Time;
  readonly watch: () => Watch;
  readonly nudge: () => void;
}

export function agentHandlers(context: AgentContext): Handlers<typeof AGENT_CALLS> {
  const { admission, time, nudge } = context;
  /** Evidence that is being checked: repeated messages do not have it checked again. */
  const checking = new Set<string>();
  const check = async (term: Term, shown: Shown): Promise<void> => {
    const id = `${shown.replica}/${shown.nonce}`;
    if (checking.has(id)) return;
    checking.add(id);
    try {
      const { fleet } = term;
      const replica = fleet.get('replica', shown.replica);
      const pool = replica && fleet.get('pool', replica.pool);
      const policy = pool && fleet.get('policy', pool.spec.policy);
      if (replica === undefined || pool === undefined || policy === undefined) return;
      const gpus = fleet.get('host', replica.host)?.facts?.gpus ?? [];
      const identities = replica.modules.map(
        (module) => gpus.find((gpu) => gpu.module === module)?.identity ?? null,
      );
      const verdict = await admission.judge(shown.report, {
        policy: policy.spec.policy,
        nonce: challengeNonce(shown.nonce, pool.spec.tenantNonce),
        identities,
        nowMs: time.nowMs(),
      });
      const make = (change: Parameters<typeof admit>[0]) => admit(change, shown, verdict);
      await term.change({ actor: 'control', operation: null, make });
      nudge();
    } finally {
      checking.delete(id);
    }
  };
  return {
    desired: {
      run: async (term, { query, caller }) => {
        const watcher = context.watch().host(caller.name);
        const over = new AbortController();
        const wait = time.sleep(POLL_MS, over.signal);
        try {
          for (;;) {
            const desired = desiredOf(term.fleet, caller.name, term.lease.epoch, time.nowMs());
            if (desired === null) throw new ControlError('not-found', 'this host was removed');
            const { epoch, sequence } = desired;
            if (epoch !== query.epoch || sequence > query.sequence) return desired;
            const isOver = (await watcher.next(() => wait)).length === 0;
            if (isOver || term.isOver) return desired;
          }
        } finally {
          over.abort();
          context.watch().leaveHost(caller.name, watcher);
        }
      },
    },
    observe: {
      run: async (term, { body, caller }) => {
        if (body.host !== caller.name) {
          throw new ControlError('forbidden', `this is the agent of ${caller.name}`);
        }
        const { sequence } = term;
        const shown = await term.change({
          actor: `host ${caller.name}`,
          operation: null,
          make: (change) => observe(change, body),
        });
        // Most say that all is as it was: a thousand hosts do so hundreds of times a second.
        if (term.sequence !== sequence) nudge();
        // The agent need not wait for a verdict.
        for (const each of shown) void check(term, each).catch(() => undefined);
        return {};
      },
    },
    renew: {
      run: (term, { body, caller }) =>
        context.tokens().renew(term, caller.name, body.csr, time.nowMs()),
    },
  };
}

/** The agent whose certificate it is. Its key is the one that joined: an earlier one is refused. */
export function agentOf(c: Context, { fleet }: Term): CallerId {
  const { incoming } = c.env as { incoming: IncomingMessage };
  const socket = incoming.socket as TLSSocket;
  const raw = socket.authorized ? socket.getPeerCertificate().raw : undefined;
  if (raw === undefined) {
    throw new ControlError('unauthenticated', 'show the certificate that joining gave');
  }
  const certificate = new X509Certificate(raw);
  const name = /^CN=(.*)$/m.exec(certificate.subject)?.[1] ?? '';
  if (fleet.get('host', name)?.agentSpkiSha256 !== spkiSha256(certificate)) {
    throw new ControlError('unauthenticated', `${name} was removed or has joined anew`);
  }
  return { role: 'agent', tenant: null, name };
}
