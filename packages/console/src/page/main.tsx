/// <reference lib="dom" />

import { createEffect, createSignal } from 'solid-js';
import { render } from 'solid-js/web';
import { key, needsKey, setKey } from './api.ts';
import { BridgePage } from './bridge.tsx';
import { ChatPage } from './chat.tsx';
import { connection, heardMs, nowMs } from './connection.ts';
import { EvidencePage } from './evidence.tsx';
import { FleetPage } from './fleet.tsx';
import { watchFleet } from './fleet-live.ts';
import { each, when } from './flow.ts';
import { KvPage } from './kv.tsx';
import { watch } from './live.ts';
import { LogPage } from './log.tsx';
import { closeFile, file, open } from './open.ts';
import { PlanPage } from './plan.tsx';
import { ProbePage } from './probe.tsx';
import { RequestsPage } from './requests.tsx';
import { go, route } from './router.ts';
import { RulesPage } from './rules.tsx';
import { type ServerKind, server } from './server.ts';
import { percentText } from './units.ts';

interface Page {
  readonly name: string;
  readonly title: string;
  /** Who has it; the others show it for a file that is opened. */
  readonly by: readonly ServerKind[];
  readonly page: () => unknown;
}

const PAGES: readonly Page[] = [
  { name: 'bridge', title: 'Bridge', by: ['serve'], page: BridgePage },
  { name: 'requests', title: 'Requests', by: ['serve'], page: RequestsPage },
  { name: 'kv', title: 'KV', by: ['serve'], page: KvPage },
  { name: 'fleet', title: 'Fleet', by: ['control'], page: FleetPage },
  { name: 'log', title: 'Log', by: ['control', 'log'], page: LogPage },
  { name: 'evidence', title: 'Evidence', by: ['serve', 'control', 'log'], page: EvidencePage },
  { name: 'chat', title: 'Chat', by: ['serve'], page: ChatPage },
  { name: 'plan', title: 'Plan', by: ['serve'], page: PlanPage },
  { name: 'probe', title: 'Probe', by: [], page: ProbePage },
  { name: 'rules', title: 'Five rules', by: ['serve'], page: RulesPage },
];
const OWN = PAGES.filter(({ by }) => by.includes(server));

/** In the navigation: the server's own, and that of a file that is open. */
const shown = () => PAGES.filter((page) => OWN.includes(page) || page.name === file()?.kind);
const pageOf = (name: string) => shown().find((each) => each.name === name) ?? OWN[0]!;

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
          {each(shown, ({ name, title }: Page) => (
            <a href={`#/${name}`} aria-current={() => (current() === name ? 'page' : undefined)}>
              {title}
            </a>
          ))}
        </nav>
        <Freshness />
        <Files />
      </header>
      <Access />
      <main id="main" tabindex={-1}>
        {() => {
          // A file that is opened or closed makes its page anew.
          file();
          return pageOf(current()).page() as never;
        }}
      </main>
    </>
  );
}

const current = () => pageOf(route().page).name;

/** While all is well ten moments a second come; control says something each five seconds. */
const STALE_MS = server === 'serve' ? 2_000 : 12_000;

/** How old what is shown is: in words and by shape, not by colour alone. */
function Freshness() {
  const age = () => Math.max(0, nowMs() - heardMs());
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

/** Recordings, traces, plans, probes, evidence, checkpoints and proofs, by what they are. */
function Files() {
  const [problem, setProblem] = createSignal('');
  const [progress, setProgress] = createSignal('');
  const load = async (event: Event) => {
    const input = event.target as HTMLInputElement;
    setProblem('');
    try {
      await open([...(input.files ?? [])], (part) => setProgress(`… ${percentText(part)}`));
    } catch (error) {
      setProblem((error as Error).message);
    }
    setProgress('');
    input.value = '';
  };
  return (
    <div class="bar files">
      <label class="button">
        Open…
        {progress}
        <input type="file" class="open" multiple onChange={load} />
      </label>
      {when(
        () => file() !== null,
        () => (
          <button type="button" onClick={closeFile}>
            Back to live
          </button>
        ),
      )}
      <span class="problem" role="alert">
        {problem}
      </span>
    </div>
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

if (location.hash === '') go(OWN[0]!.name);
// Something is seen before there is a script; now it takes its place.
const place = document.getElementById('app')!;
place.replaceChildren();
render(App as () => never, place);
if (server === 'serve') void watch();
if (server === 'control') void watchFleet();
