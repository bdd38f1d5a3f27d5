/// <reference lib="dom" />

/** What sent the page: one engine's server, a control plane, or an agent with its log. */
export type ServerKind = 'serve' | 'control' | 'log';

/** The page is the same for all of them; who sends it writes into it what it is. */
export const server: ServerKind = kindOf(document.documentElement.dataset.server);

function kindOf(text: string | undefined): ServerKind {
  return text === 'control' || text === 'log' ? text : 'serve';
}
