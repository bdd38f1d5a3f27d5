/// <reference lib="dom" />
import { createSignal } from 'solid-js';

/** Where the page is, all of it in its address: `#/requests/ID?zoom=2`. */
export interface Route {
  readonly page: string;
  readonly rest: readonly string[];
  readonly query: URLSearchParams;
}

function read(): Route {
  const [path = '', query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [page = '', ...rest] = path.split('/').map(decodeURIComponent);
  return { page, rest, query: new URLSearchParams(query) };
}

const [route, setRoute] = createSignal(read());

export { route };

addEventListener('hashchange', () => setRoute(read()));

export function go(page: string, ...rest: readonly string[]): void {
  location.hash = `#/${[page, ...rest].map(encodeURIComponent).join('/')}`;
}

/** Puts something of the view into the address, without a step in the history. */
export function remember(changes: Readonly<Record<string, string | null>>): void {
  const { page, rest, query } = read();
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) query.delete(name);
    else query.set(name, value);
  }
  const path = [page, ...rest].map(encodeURIComponent).join('/');
  const text = query.toString();
  history.replaceState(null, '', `#/${path}${text === '' ? '' : `?${text}`}`);
}
