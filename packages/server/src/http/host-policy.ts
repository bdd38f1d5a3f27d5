import { isIP } from 'node:net';
import { ApiError } from './errors.ts';

/**
 * Which names a server without keys answers to. A page can give its own name the address of this
 * machine (DNS rebinding); its browser then sends what it likes here, and says that name.
 */
export class HostPolicy {
  readonly #names: ReadonlySet<string>;

  /** `names`: beside those of loopback, and addresses. `*` is every name. */
  constructor(names: readonly string[]) {
    this.#names = new Set(names.map((name) => name.toLowerCase()));
  }

  /** `host`: the header, absent in requests of no browser. Throws ApiError `host_not_allowed`. */
  check(host: string | undefined): void {
    if (host === undefined || this.#names.has('*')) return;
    const name = nameOf(host);
    // Nobody can give an address another address.
    if (isIP(name.replace(/^\[|\]$/g, '')) !== 0) return;
    if (name === 'localhost' || name.endsWith('.localhost') || this.#names.has(name)) return;
    const message =
      'This server has no API keys and does not answer to that host name: ' +
      'start it with --allowed-hosts <name>, or with --api-key.';
    throw new ApiError('host_not_allowed', message);
  }
}

/** Without port and final dot; empty for what is no host. */
function nameOf(host: string): string {
  const url = URL.canParse(`http://${host}`) ? new URL(`http://${host}`) : undefined;
  return url === undefined || url.pathname !== '/' ? '' : url.hostname.replace(/\.$/, '');
}
