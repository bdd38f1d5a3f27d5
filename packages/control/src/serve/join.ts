import { createHash, createHmac, timingSafeEqual, X509Certificate } from 'node:crypto';
import type { JoinAnswer, JoinRequest } from '../api/agent.ts';
import { ControlError } from '../errors.ts';
import type { Term } from '../lead/term.ts';
import { type Pem, signAgent } from './authority.ts';

const TOKEN_MS = 3600 * 1000;
const PREFIX = 'bkjoin';

/**
 * Tokens with which a host joins: its name, until when, a MAC of both, and whom it shall trust.
 * Nothing is kept of them; a name that has joined is taken.
 */
export class JoinTokens {
  readonly #key: string;
  readonly #authority: Pem;

  constructor(key: string, authority: Pem) {
    this.#key = key;
    this.#authority = authority;
  }

  make(host: string, nowMs: number): { readonly token: string; readonly expiresMs: number } {
    const expiresMs = nowMs + TOKEN_MS;
    const mac = this.#mac(host, String(expiresMs));
    const authority = certificateSha256(this.#authority.certificate);
    return { token: [PREFIX, host, expiresMs, mac, authority].join('.'), expiresMs };
  }

  /** Throws ControlError 'join-refused'. */
  async join(term: Term, { token, host, csr }: JoinRequest, nowMs: number): Promise<JoinAnswer> {
    const [prefix, name, expires, mac] = token.split('.');
    const isGood =
      prefix === PREFIX &&
      name === host &&
      mac !== undefined &&
      isEqual(mac, this.#mac(host, expires ?? '')) &&
      nowMs < Number(expires);
    if (!isGood)
      throw new ControlError('join-refused', 'the token is wrong, old or another host’s');
    const signed = await signAgent(this.#authority, host, csr, nowMs);
    if (signed === null)
      throw new ControlError('join-refused', 'the certificate request is broken');
    await term.change({
      actor: `host ${host}`,
      operation: null,
      make: ({ fleet, nowMs: joinedMs }) => {
        const before = fleet.get('host', host);
        if (before?.agentSpkiSha256 === signed.spkiSha256) return;
        if (before !== undefined) {
          const message = `${host} has joined already: remove it first if this is another machine`;
          throw new ControlError('join-refused', message);
        }
        fleet.put('host', host, {
          host,
          state: 'joined',
          lostSinceMs: null,
          facts: null,
          quarantined: [],
          bootId: null,
          agentSpkiSha256: signed.spkiSha256,
          joinedMs,
          checkpoint: null,
          desiredSequence: 0,
        });
        fleet.audit.push({ actor: `host ${host}`, action: 'joined', subject: host, detail: '' });
      },
    });
    return { certificate: signed.certificate, authority: this.#authority.certificate };
  }

  /**
   * Signs the key anew that the host has joined with. Nothing is written: an answer that is lost
   * is asked for again. Throws ControlError 'forbidden', 'bad-request'.
   */
  async renew(
    { fleet }: Pick<Term, 'fleet'>,
    host: string,
    csr: string,
    nowMs: number,
  ): Promise<JoinAnswer> {
    const signed = await signAgent(this.#authority, host, csr, nowMs);
    if (signed === null) throw new ControlError('bad-request', 'the certificate request is broken');
    if (fleet.get('host', host)?.agentSpkiSha256 !== signed.spkiSha256) {
      const message = `${host} has joined with another key: remove it and let it join anew`;
      throw new ControlError('forbidden', message);
    }
    return { certificate: signed.certificate, authority: this.#authority.certificate };
  }

  #mac(host: string, expires: string): string {
    return createHmac('sha256', this.#key)
      .update(`${PREFIX} v1\n${host}\n${expires}`)
      .digest('hex');
  }
}

/** What a token says whom to trust by: its last part. */
export function authorityOf(token: string): string | null {
  return /\.([0-9a-f]{64})$/.exec(token)?.[1] ?? null;
}

export function certificateSha256(pem: string): string {
  return createHash('sha256').update(new X509Certificate(pem).raw).digest('hex');
}

function isEqual(one: string, other: string): boolean {
  const left = Buffer.from(one);
  const right = Buffer.from(other);
  return left.length === right.length && timingSafeEqual(left, right);
}
