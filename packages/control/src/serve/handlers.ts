import type { z } from '@hono/zod-openapi';
import type { Call } from '../api/routes.ts';
import type { Change } from '../fleet/context.ts';
import type { Term } from '../lead/term.ts';

/** Who calls, by the key or the certificate that was shown. */
export interface CallerId {
  readonly role: 'operator' | 'gateway' | 'tenant' | 'metrics' | 'agent';
  /** Of a tenant's key. */
  readonly tenant: string | null;
  /** For the audit log: a key's id, a host's name. */
  readonly name: string;
}

type Parsed<S> = S extends z.ZodType ? z.output<S> : undefined;

export interface Input<C extends Call> {
  readonly params: Parsed<C['params']>;
  readonly query: Parsed<C['query']>;
  readonly body: Parsed<C['body']>;
  readonly caller: CallerId;
  /** The version that the caller has; null: whichever there is. */
  readonly ifMatch: number | null;
}

type Answer<C extends Call> = z.input<C['response']>;

/**
 * What answers a call: by looking, by changing (which answers once it is written), or by more than
 * one step.
 */
export type Handler<C extends Call> =
  | { readonly read: (term: Term, input: Input<C>) => Answer<C> | Promise<Answer<C>> }
  | { readonly write: (change: Change, input: Input<C>) => Answer<C> }
  | { readonly run: (term: Term, input: Input<C>) => Promise<Answer<C>> };

export type Handlers<Calls extends Readonly<Record<string, Call>>> = {
  readonly [K in keyof Calls]: Calls[K] extends { readonly isStream: true }
    ? null
    : Handler<Calls[K]>;
};
