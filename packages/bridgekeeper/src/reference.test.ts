import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCli } from './cli/program.ts';
import { LAUNCHER } from './launcher.ts';
import { testIo } from './testing/test-io.ts';

// docs/reference says what the program does; here the program itself is asked, from the outside, so
// that these tests hold wherever its parts are.

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const REFERENCE = join(ROOT, 'docs/reference');
const readPage = (name: string): string => readFileSync(join(REFERENCE, name), 'utf8');

/** The first cells of a page's table rows that hold code, without its quotes. */
const firstCells = (page: string): string[] =>
  [...page.matchAll(/^\| `([^`]+)` \|/gm)].map((match) => match[1]!);

interface Flag {
  readonly name: string;
  /** `<n>`; empty for a switch. */
  readonly value: string;
  readonly help: string;
}

interface Help {
  readonly summary: string;
  /** What stands without dashes: `[model]`. */
  readonly usage: string;
  readonly flags: readonly Flag[];
  readonly commands: readonly string[];
}

const helps = new Map<string, Promise<Help>>();

/** What a command's --help says, asked once. */
function helpOf(...command: string[]): Promise<Help> {
  const key = command.join(' ');
  const help = helps.get(key) ?? readHelp(command);
  helps.set(key, help);
  return help;
}

async function readHelp(command: readonly string[]): Promise<Help> {
  const { io, out } = testIo();
  expect(await runCli([...command, '--help'], io)).toBe(0);
  const text = out.join('\n');
  // Help is the same on every machine.
  expect(text).not.toContain(ROOT);
  const [head = '', ...sections] = text.split(/\n\n(?=\S)/);
  const summaries = sections.filter((section) => !/^\w+:/.test(section));
  const entries = (title: string): string[] => {
    const section = sections.find((each) => each.startsWith(`${title}:\n`)) ?? '';
    // Long texts go on in lines that are indented further.
    const joined = section.replace(/\n {5,}(?=\S)/g, ' ');
    return joined.split('\n').slice(1);
  };
  const flags = entries('Options').flatMap((entry): Flag[] => {
    const [, name, value = '', help = ''] =
      /^ {2}(?:-h, )?(--[\w-]+)(?: (<[^>]+>))?\s*(.*)$/.exec(entry) ?? [];
    if (name === undefined || name === '--help' || help.startsWith('not --')) return [];
    return [{ name, value, help }];
  });
  const commands = entries('Commands').flatMap((entry) => /^ {2}([\w-]+)/.exec(entry)?.[1] ?? []);
  return {
    summary: summaries[0] ?? '',
    usage: head.replace('Usage: ', ''),
    flags,
    commands: commands.filter((name) => name !== 'help'),
  };
}

const cell = (text: string): string => text.replaceAll('|', '\\|');
const code = (text: string): string => (text === '' ? '' : `\`${cell(text)}\``);
const sentence = (text: string): string => {
  const joined = text.replace(/\s+/g, ' ');
  return `${joined[0]!.toUpperCase()}${joined.slice(1)}.`;
};

/** A setting's help ends with its default and its environment variable. */
function settingRow({ name, value, help }: Flag): string {
  const [, text, fallback = '', variable = ''] =
    /^(.*?)(?: \(default: ([^)]*)\))?(?: \[(\w+)\])?$/.exec(help) ?? [];
  const cells = [name, value, fallback, variable].map(code);
  return `| ${cells.join(' | ')} | ${cell(text!)} |`;
}

const flagRow = ({ name, value, help }: Flag): string =>
  `| ${code(name)} | ${code(value)} | ${cell(help)} |`;

const PREFACE = [
  '# Commands and flags',
  'Made from `bridgekeeper --help`. A test holds it to that, and writes it anew with `-u`: ' +
    '`npm test -- packages/bridgekeeper/dist/reference -u`.',
  'Settings come from flags, then from the environment variable, then from the file that ' +
    '`--config` names (YAML; its keys are the flags without dashes), then from the default. A ' +
    'switch of these, and any that is on by default, is turned off by its `--no-` form. Numbers ' +
    'may be written `16K`, `256M` or `1G`. Every command also takes `--help`. Exit codes: 0 ' +
    'done, 1 failed, 2 bad usage or input.\n',
].join('\n\n');

async function flagsPage(): Promise<string> {
  const { commands } = await helpOf();
  const serve = await helpOf('serve');
  const settings = new Set(serve.flags.map(({ name }) => name));
  const parts = [PREFACE];
  const add = async (...command: string[]): Promise<void> => {
    const { summary, usage, flags, commands: inner } = await helpOf(...command);
    // A name that only groups commands has no flags; `plan` has some, and commands as well.
    if (inner.length === 0 || flags.length > 0) addPage(command, { summary, usage, flags });
    for (const each of inner) await add(...command, each);
  };
  const addPage = (command: readonly string[], help: Omit<Help, 'commands'>): void => {
    const { summary, usage, flags } = help;
    const title = command.join(' ');
    parts.push(`## ${title}\n\n${sentence(summary)} \`${usage}\`\n`);
    const isServe = title === 'serve';
    const takesAll = !isServe && [...settings].every((name) => flags.some((f) => f.name === name));
    if (takesAll) parts.push('It takes every setting of `serve`, and:\n');
    const shown = takesAll ? flags.filter(({ name }) => !settings.has(name)) : flags;
    const head = isServe
      ? '| flag | value | default | variable | meaning |\n|---|---|---|---|---|'
      : '| flag | value | meaning |\n|---|---|---|';
    parts.push(`${[head, ...shown.map(isServe ? settingRow : flagRow)].join('\n')}\n`);
  };
  for (const command of ['serve', ...commands.filter((name) => name !== 'serve')]) {
    await add(command);
  }
  return parts.join('\n');
}

it('flags.md is what --help says', async () => {
  await expect(await flagsPage()).toMatchFileSnapshot(join(REFERENCE, 'flags.md'));
});

describe('pages about a running server', () => {
  let child: ChildProcess;
  let url: string;
  beforeAll(async () => {
    const flags = ['--port', '0', '--json', '--device', 'cpu', '--receipts', 'memory'];
    // Its routes are there only with it, and so are metrics with the other.
    flags.push('--enable-sleep-mode');
    const drafts = { method: 'ngram', num_speculative_tokens: 2 };
    flags.push('--speculative-config', JSON.stringify(drafts));
    child = spawn(process.execPath, [LAUNCHER, 'serve', ...flags], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    let out = '';
    for await (const text of child.stdout!.setEncoding('utf8')) {
      out += text;
      if (out.includes('\n')) break;
    }
    url = (JSON.parse(out) as { url: string }).url;
  });
  afterAll(async () => {
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
  });

  it('http.md has each route of the OpenAPI document, and no other', async () => {
    const { paths } = (await (await fetch(`${url}/openapi.json`)).json()) as {
      paths: Record<string, Record<string, unknown>>;
    };
    const routes = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const headings = [...readPage('http.md').matchAll(/^### `([A-Z]+ [^`]+)`$/gm)];
    expect(headings.map((match) => match[1]!).sort()).toEqual(routes.sort());
  });

  it('http.md names each field of a request', async () => {
    const { components } = (await (await fetch(`${url}/openapi.json`)).json()) as {
      components: { schemas: Record<string, { properties?: object }> };
    };
    const page = readPage('http.md');
    for (const name of [
      'ChatCompletionRequest',
      'CompletionRequest',
      'ResponsesRequest',
      'MessagesRequest',
      'EmbeddingsRequest',
      'ScoreRequest',
      'RerankRequest',
      'DetokenizeRequest',
    ]) {
      for (const field of Object.keys(components.schemas[name]!.properties!)) {
        expect(page, `${name}.${field}`).toContain(`\`${field}\``);
      }
    }
  });

  it('metrics.md has each metric with its type, and no other', async () => {
    const exposition = await (await fetch(`${url}/metrics`)).text();
    const typeOf = new Map(
      [...exposition.matchAll(/^# TYPE (\S+) (\w+)$/gm)].map(({ 1: name, 2: type }) => [
        name!,
        type!,
      ]),
    );
    const page = readPage('metrics.md').split('\n## The gateway\n')[0]!;
    expect(firstCells(page).sort()).toEqual([...typeOf.keys()].sort());
    for (const [name, type] of typeOf) expect(page).toContain(`| \`${name}\` | ${type} |`);
  });
});

/** The members of each closed type of error codes in the sources, by its name. */
function errorCodes(): Map<string, readonly string[]> {
  const packages = join(ROOT, 'packages');
  const sources = readdirSync(packages, { recursive: true, encoding: 'utf8' }).filter((path) =>
    /^[^/]+\/src\/.*(?<!\.test)\.ts$/.test(path),
  );
  const found = new Map<string, readonly string[]>();
  for (const path of sources) {
    const text = readFileSync(join(packages, path), 'utf8');
    for (const { 1: name, 2: body } of text.matchAll(
      /^(?:export )?type (\w+)ErrorCode =([^;]+);/gm,
    )) {
      const members = body!.replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '').matchAll(/'([^']+)'/g);
      found.set(`${name}Error`, [...members].map((match) => match[1]!).sort());
    }
  }
  return found;
}

it('errors.md has each error with exactly its codes', () => {
  const sections = readPage('errors.md').split(/^## /m).slice(1);
  const documented = new Map(
    sections.flatMap((section) => {
      const name = /^`(\w+Error)`/.exec(section)?.[1];
      const codes = firstCells(section);
      return name === undefined || codes.length === 0 ? [] : [[name, codes.sort()] as const];
    }),
  );
  const written = errorCodes();
  expect([...documented.keys()].sort()).toEqual([...written.keys()].sort());
  for (const [name, codes] of written) expect([name, documented.get(name)]).toEqual([name, codes]);
});
