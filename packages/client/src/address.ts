import { ClientError } from './errors.ts';

/** Where a server is: requests go to this origin, below this path, and nowhere else. */
export interface ServerAddress {
  readonly origin: string;
  readonly url: URL;
  /** Without a slash at its end and without `/v1`: empty, or `/replica-1`. */
  readonly basePath: string;
}

/** Reads an address with or without `/v1`. Throws ClientError 'bad-address'. */
export function readAddress(text: string): ServerAddress {
  let url: URL;
  try {
    url = new URL(text);
  } catch (cause) {
    throw new ClientError('bad-address', 'the server’s address is no URL', { cause });
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    throw new ClientError('bad-address', `${url.protocol} is neither https: nor http:`);
  }
  if (url.username !== '' || url.password !== '') {
    throw new ClientError('bad-address', 'no key belongs into an address: give it as `apiKey`');
  }
  const basePath = url.pathname.replace(/\/+$/, '').replace(/\/v1$/, '');
  return { origin: url.origin, url, basePath };
}

/** The path and query that a request asks for. Throws ClientError 'elsewhere'. */
export function pathWithin({ origin, basePath }: ServerAddress, requested: string): string {
  const url = new URL(requested);
  if (url.origin !== origin || !url.pathname.startsWith(`${basePath}/`)) {
    const message = `${url.origin} was not verified: this connection is to ${origin}${basePath}`;
    throw new ClientError('elsewhere', message);
  }
  return url.pathname + url.search;
}
