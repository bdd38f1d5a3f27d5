import { flagOf } from '@bridgekeeper/server';
import { describe, expect, test } from 'vitest';
import { testIo } from '../testing/test-io.ts';
import { type CliCommand, offeredFlags } from './command.ts';
import { loadCommands } from './commands.ts';
import { runCli } from './program.ts';

/** The command's words, with something for every argument that it insists on. */
function wordsOf(command: CliCommand): string[] {
  const required = offeredFlags(command).filter(([, { argument }]) => argument === 'required');
  // Of a few words, the first.
  const words = required.map(([, { kind }]) => /^one of (\w+)/.exec(kind.what)?.[1] ?? 'something');
  return [...command.name.split(' '), ...words];
}

async function run(words: readonly string[], environment: Record<string, string> = {}) {
  const { io, out, err } = testIo({ environment });
  const code = await runCli(words, io);
  return { code, out: out.join('\n').replace(/\s+/g, ' '), err: err.join('\n') };
}

const COMMANDS = await loadCommands();

describe.each(COMMANDS.map((command) => [command.name, command] as const))('%s', (_, command) => {
  const flags = offeredFlags(command);
  const dashed = flags.filter(([, { argument }]) => argument === undefined);

  test('shows every flag in its help, with its default and its variable', async () => {
    const { code, out } = await run([...command.name.split(' '), '--help']);
    expect(code).toBe(0);
    expect(out).toContain(command.summary);
    for (const [name, flag] of flags) {
      const { kind, default: fallback, defaultName, help, argument, isSetting } = flag;
      const metavar =
        kind.list && dashed.length === flags.length ? `${kind.metavar}...` : kind.metavar;
      if (argument === undefined) {
        expect(out).toContain(` --${flagOf(name)} ${kind.isSwitch ? '' : `<${metavar}> `}`);
      }
      const value = fallback === Number.POSITIVE_INFINITY ? 'inf' : String(fallback ?? '');
      const shown = defaultName ?? value;
      const hasDefault = shown !== '' && fallback !== false;
      const variable = isSetting
        ? ` [BRIDGEKEEPER_${name.replace(/[A-Z]/g, '_$&').toUpperCase()}]`
        : '';
      expect(out).toContain(`${help}${hasDefault ? ` (default: ${shown})` : ''}${variable}`);
      expect(out.includes(` --no-${flagOf(name)} `)).toBe(
        kind.isSwitch === true && (fallback !== false || isSetting === true),
      );
    }
  });

  test('has defaults that could be given', () => {
    for (const [name, { kind, default: fallback }] of flags) {
      const shown = fallback === Number.POSITIVE_INFINITY ? 'inf' : String(fallback ?? '');
      if (shown !== '') expect([name, kind.parse(shown)]).toEqual([name, fallback]);
    }
  });

  test('refuses a bad value of every flag with 2, and names it', async () => {
    for (const [name, { kind }] of dashed) {
      if (kind.isSwitch) continue;
      const { code, out, err } = await run([...wordsOf(command), `--${flagOf(name)}`, '']);
      const got = kind.secret ? '' : ', got ""';
      const message = `bridgekeeper: --${flagOf(name)}: must be ${kind.what}${got}`;
      expect([code, out, err]).toEqual([2, '', message]);
    }
  });

  test('refuses a bad value of every variable with 2, and names it', async () => {
    for (const [name, { isSetting }] of Object.entries(command.flags)) {
      if (!isSetting) continue;
      const variable = `BRIDGEKEEPER_${flagOf(name).replaceAll('-', '_').toUpperCase()}`;
      const { code, err } = await run(wordsOf(command), { [variable]: '' });
      expect([code, err]).toEqual([
        2,
        expect.stringContaining(`bridgekeeper: ${variable}: must be`),
      ]);
    }
  });

  test('refuses a flag that it does not have, and offers the nearest', async () => {
    const [name] = dashed.at(-1)!;
    const { code, err } = await run([...wordsOf(command), `--${flagOf(name)}x`]);
    expect(code).toBe(2);
    expect(err).toContain(`unknown option '--${flagOf(name)}x'`);
    expect(err).toContain(`--${flagOf(name)}?`);
  });
});

test('commands come in the order in which they are wanted', async () => {
  const { io, out } = testIo();
  await runCli(['--help'], io);
  const [, listed = ''] = out.join('\n').split('Commands:');
  const names = [...listed.matchAll(/^ {2}([a-z-]+) /gm)].map((match) => match[1]);
  const first = [
    'serve',
    'chat',
    'top',
    'verify',
    'connect',
    'doctor',
    'plan',
    'probe',
    'fabric',
    'control',
    'agent',
    'gateway',
    'witness',
    'load',
    'seal',
  ];
  const then = ['attest', 'measure', 'verify-bundle', 'bench', 'selftest', 'version', 'help'];
  expect(names).toEqual([...first, ...then]);
});

test('a secret is not shown where it is refused', async () => {
  const command = ['doctor', '--engine-environment', 'hunter2'];
  const header = ['bench', 'serve', '--header', 'hunter2'];
  for (const words of [command, header]) {
    const { code, err } = await run(words);
    expect([code, err]).toEqual([2, expect.stringMatching(/: must be (NAME|KEY)=VALUE/)]);
    expect(err).not.toContain('hunter2');
  }
});
