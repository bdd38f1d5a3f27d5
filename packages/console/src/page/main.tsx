/// <reference lib="dom" />

import { createEffect, createSignal } from 'solid-js';
import { render } from 'solid-js/web';
import { key, needsKey, setKey } from './api.ts';
import { BridgePage } from './bridge.tsx';
import { ChatPage } from './chat.tsx';
import { EvidencePage } from './evidence.tsx';
import { when } from './flow.ts';
import { KvPage } from './kv.tsx';
import { connection, file, heardMs, watch } from './live.ts';
import { RequestsPage } from './requests.tsx';
import { go, route } from './router.ts';
import { RulesPage } from './rules.tsx';

const PAGES = [
  { name: 'bridge', title: 'Bridge', page: BridgePage },
  { name: 'requests', title: 'Requests', page: RequestsPage },
  { name: 'kv', title: 'KV', page: KvPage },
  { name: 'evidence', title: 'Evidence', page: EvidencePage },
  { name: 'chat', title: 'Chat', page: ChatPage },
  { name: 'rules', title: 'Five rules', page: RulesPage },
] as const;

const pageOf = (name: string) => PAGES.find((each) => each.name === name) ?? PAGES[0];

function App() {
  createEffect(() => {
    document.title = `${pageOf(route().page).title} · Bridgekeeper`;
  });
  return (
    <>
      <a class="skip" href="#main">
        Skip to the page
      </a>
      <header class="top">
        <strong class="brand">Bridgekeeper</strong>
        <nav aria-label="Pages">
          {PAGES.map(({ name, title }) => (
            <a href={`#/${name}`} aria-current={() => (current() === name ? 'page' : undefined)}>
              {title}
            </a>
          ))}
        </nav>
        <Freshness />
      </header>
      <Access />
      <main id="main" tabindex={-1}>
        {() => pageOf(current()).page()}
      </main>
    </>
  );
}

const current = () => pageOf(route().page).name;

const TICK_MS = 500;
/** Ten moments a second come while all is well. */
const STALE_MS = 2_000;

/** How old what is shown is: in words and by shape, not by colour alone. */
function Freshness() {
  const [nowMs, setNowMs] = createSignal(Date.now());
  setInterval(() => setNowMs(Date.now()), TICK_MS);
  const age = () => nowMs() - heardMs();
  const text = () => {
    const opened = file();
    if (opened !== null) return `▤ from ${opened.name}`;
    const now = connection();
    if (now.state === 'connecting') return '… connecting';
    const seconds = Math.round(age() / 1000);
    if (now.state === 'lost') {
      const shown = heardMs() === 0 ? 'nothing was heard yet' : `what is shown is ${seconds} s old`;
      return `✕ ${now.reason}; ${shown}`;
    }
    return age() > STALE_MS ? `◌ silent for ${seconds} s` : '● live';
  };
  const state = () => {
    if (file() !== null) return 'file';
    return connection().state === 'live' && age() <= STALE_MS ? 'live' : 'old';
  };
  return (
    <p class={() => `freshness ${state()}`} role="status" data-state={state}>
      {text}
    </p>
  );
}

function Access() {
  const submit = (event: Event) => {
    event.preventDefault();
    const field = (event.target as HTMLFormElement).elements.namedItem('key') as HTMLInputElement;
    setKey(field.value.trim());
  };
  const isRefused = () => {
    const now = connection();
    return now.state === 'lost' && /key/i.test(now.reason);
  };
  return when(
    () => needsKey() || isRefused(),
    () => (
      <form class="access" onSubmit={submit}>
        <label>
          API key
          <input
            name="key"
            type="password"
            autocomplete="off"
            spellcheck={false}
            value={key}
            required
          />
        </label>
        <button type="submit">Use it</button>
        <p class="hint">
          It stays in this tab. Lanes and ledger are of all tenants: an operator key shows them.
        </p>
      </form>
    ),
  );
}

if (location.hash === '') go('bridge');
render(App as () => never, document.getElementById('app')!);
void watch();
