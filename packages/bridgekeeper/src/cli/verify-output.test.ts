import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { makeService } from '@bridgekeeper/attest/testing';
import { Ajv, type ValidateFunction } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { testIo } from '../testing/test-io.ts';
import { runCli } from './program.ts';

const SCHEMA = fileURLToPath(new URL('../../schema/verify.schema.json', import.meta.url));
const MAIN = fileURLToPath(new URL('../main.js', import.meta.url));
const SARIF_SCHEMA = '@microsoft/jest-sarif/lib/schemas/sarif-2.1.0-rtm.5.json';

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-verify-output-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const place = (name: string) => join(scratch, name);

/** Formats such as dates are left to the schemas’ other readers. */
const options = { strict: false, validateFormats: false, allErrors: true };

async function verify(...args: readonly string[]) {
  const { io, out, err } = testIo({
    readFile: (path) => readFileSync(path, 'utf8'),
    writeFile: (path, text) => writeFileSync(path, text),
  });
  const code = await runCli(['verify', ...args], io);
  return { code, out, error: err.join('\n') };
}

beforeAll(async () => {
  const [, rim] = [...(await makeService()).files].find(([name]) => name.endsWith('.xml'))!;
  writeFileSync(place('NV_GPU_DRIVER_GH100_590.12.xml'), rim);
  writeFileSync(place('prose.txt'), 'prose');
});

const RIM = place('NV_GPU_DRIVER_GH100_590.12.xml');

describe('with --json', () => {
  let isValid: ValidateFunction;
  const document = async (...args: readonly string[]) => {
    const { code, out, error } = await verify(...args, '--json');
    expect(out).toHaveLength(1);
    const json = JSON.parse(out[0]!);
    expect([isValid(json), isValid.errors]).toEqual([true, null]);
    return { code, json, error };
  };

  beforeAll(() => {
    isValid = new Ajv2020(options).compile(JSON.parse(readFileSync(SCHEMA, 'utf8')));
  });

  test('the schema is published as it is printed', async () => {
    const { code, out } = await verify('--print-schema');
    expect(code).toBe(0);
    await expect(`${out[0]}\n`).toMatchFileSnapshot(SCHEMA);
  });

  test('a result is one document of that schema, which allows nothing else', async () => {
    const { code, json } = await document(RIM, '--offline');
    expect([code, json.verdict.result]).toEqual([1, 'refused']);
    expect(isValid({ ...json, more: 1 })).toBe(false);
    const { verdict: _, ...without } = json;
    expect(isValid(without)).toBe(false);
  });

  test.each<[readonly string[], string, string]>([
    [[], 'UsageError', 'bad-value'],
    [['--nonsense', 'x'], 'UsageError', 'bad-usage'],
    [['--nonce', 'ab', 'x'], 'UsageError', 'bad-value'],
    [['--policy', '/nowhere', 'x'], 'UsageError', 'bad-file'],
    [['--eat', 'x', 'x'], 'UsageError', 'bad-combination'],
    [[RIM, '--format', 'sarif'], 'UsageError', 'bad-combination'],
    [[place('none')], 'VerifyError', 'not-found'],
    [[place('none'), place('nor')], 'VerifyError', 'not-found'],
    [[place('prose.txt')], 'VerifyError', 'unreadable'],
    [['http://127.0.0.1:1'], 'VerifyError', 'unreachable'],
    [['http://a', 'http://b'], 'VerifyError', 'unreadable'],
    [['--pin', place('prose.txt/x'), '--eat', place('no/e'), RIM], 'UsageError', 'bad-combination'],
  ])('%j exits with 2 and one document that says why', async (args, name, code) => {
    const { code: exitCode, json, error } = await document('--offline', ...args);
    expect(exitCode).toBe(2);
    expect(json).toMatchObject({ suite: 'verify', runs: [], error: { name, code } });
    expect(error).toContain(json.error.message.split('\n')[0]);
  });

  test('one of many files that cannot be read is named, and the whole refused', async () => {
    const { code, json } = await document('--offline', RIM, place('none'));
    expect(code).toBe(2);
    expect(json.unreadable).toEqual([
      { name: place('none'), code: 'not-available', message: expect.stringContaining('ENOENT') },
    ]);
    expect(json.claims.length).toBeGreaterThan(0);
    const reasons = json.verdict.reasons.map(({ text }: { text: string }) => text);
    expect(reasons).toContain(json.unreadable[0].message);
  });
});

describe('with --format sarif', () => {
  let isValid: ValidateFunction;
  const log = async (...args: readonly string[]) => {
    const { code, out } = await verify(...args, '--format', 'sarif');
    expect(out).toHaveLength(1);
    const json = JSON.parse(out[0]!);
    expect([isValid(json), isValid.errors]).toEqual([true, null]);
    return { code, run: json.runs[0] };
  };

  beforeAll(() => {
    const path = createRequire(import.meta.url).resolve(SARIF_SCHEMA);
    // Of draft 4, which differs in words that it does not use, its name apart.
    const { $schema: _, id: __, ...schema } = JSON.parse(readFileSync(path, 'utf8'));
    isValid = new Ajv({ ...options, unicodeRegExp: false }).compile(schema);
  });

  test('each reason of a refusal is a result, with the rule and its subject', async () => {
    const { code, run } = await log(RIM, '--offline');
    expect(code).toBe(1);
    expect(run.results[0]).toMatchObject({
      ruleId: 'rim.chain',
      level: 'error',
      properties: { code: 'root-not-pinned' },
    });
    const [{ physicalLocation, logicalLocations }] = run.results[0].locations;
    expect(physicalLocation.artifactLocation.uri).toContain('NV_GPU_DRIVER_GH100_590.12.xml');
    expect(logicalLocations[0].fullyQualifiedName).toMatch(/^RIM/);
    expect(run.tool.driver.rules).toContainEqual({ id: 'rim.chain' });
    expect(run.invocations[0].executionSuccessful).toBe(true);
  });

  test('what cannot be read is a notification, whether or not there is a result', async () => {
    const some = await log('--offline', RIM, place('none'));
    const none = await log('--offline', place('none'));
    for (const { code, run } of [some, none]) {
      expect(code).toBe(2);
      expect(run.invocations[0]).toMatchObject({
        executionSuccessful: false,
        toolExecutionNotifications: [
          { level: 'error', descriptor: { id: expect.stringMatching(/^not-/) } },
        ],
      });
    }
    expect(some.run.results.length).toBeGreaterThan(none.run.results.length);
  });

  test('is a log that another schema would refuse', () => {
    expect(isValid({ version: '2.1.0', runs: [{}] })).toBe(false);
  });
});

describe('a process', () => {
  /** What the loader of a process resolved that verifies, and what it printed. */
  function modulesOf(program: string) {
    const list = place(`loaded-${program.split('/').at(-1)}.txt`);
    const record = `import { appendFileSync } from 'node:fs';
      export const load = (url, context, next) => {
        appendFileSync(${JSON.stringify(list)}, url + '\\n');
        return next(url, context);
      };`;
    const asUrl = (code: string) => `data:text/javascript,${encodeURIComponent(code)}`;
    const hooks = `import { register } from 'node:module';
      register(${JSON.stringify(asUrl(record))});`;
    const at = ['--at', '2026-09-01', '--offline'];
    const args = ['--import', asUrl(hooks), program, 'verify', RIM, ...at];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    expect([status, stderr]).toEqual([1, '']);
    return { stdout, urls: readFileSync(list, 'utf8').trim().split('\n') };
  }

  test('loads nothing of engines, servers or libraries of the machine in order to verify', () => {
    const { urls } = modulesOf(MAIN);
    const heavy = /koffi|hono|yaml|pino|jose|(engine|device|bench|doctor|probe)\/dist/;
    expect(urls.filter((url) => heavy.test(url))).toEqual([]);
    const ofServer = urls.filter((url) => /server\/dist/.test(url));
    expect(ofServer.map((url) => url.split('dist/')[1]).sort()).toEqual([
      'host-clock.js',
      'settings/flags.js',
      'settings/index.js',
      'settings/kinds.js',
      'settings/resolve.js',
      'settings/variables.js',
    ]);
    expect(urls.filter((url) => url.includes('/attest/dist/')).length).toBeGreaterThan(10);
    expect(urls.length).toBeLessThan(300);
  });

  test('needs one file where the program was made one, and says the same', async () => {
    const script = new URL('../../../../scripts/program.mjs', import.meta.url);
    const { buildProgram } = (await import(script.href)) as {
      buildProgram(folder: string): Promise<void>;
    };
    await buildProgram(place('one/dist'));
    // Its version is beside the folder that it is in.
    copyFileSync(new URL('../../package.json', import.meta.url), place('one/package.json'));
    const program = place('one/dist/program.mjs');
    const { stdout, urls } = modulesOf(program);
    const files = urls.filter((url) => url.startsWith('file:'));
    expect(files).toEqual([pathToFileURL(program).href]);
    expect(stdout).toBe(modulesOf(MAIN).stdout);
  });
});
