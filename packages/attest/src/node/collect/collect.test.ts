import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { toHex } from '../../core/bytes.ts';
import { collectByDstack } from './dstack.ts';
import { seekCpuEvidence, seekGpuEvidence } from './machine.ts';
import { collectByTsm, type TsmFiles } from './tsm.ts';

let scratch: string;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'collect-'));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

const DATA = Uint8Array.from({ length: 64 }, (_, i) => i);

/**
 * Does in a plain folder what the kernel does in configfs: a new folder gets its attributes, a
 * write to `inblob` counts and makes the kernel sign, a folder with attributes can be removed.
 */
function kernel(provider: string, disturb: (folder: string) => Promise<void> = async () => {}) {
  const generationOf = async (folder: string) => {
    return Number(await readFile(join(folder, 'generation'), 'utf8'));
  };
  const bump = async (folder: string) => {
    await writeFile(join(folder, 'generation'), `${(await generationOf(folder)) + 1}\n`);
  };
  const files: TsmFiles = {
    mkdir: async (path) => {
      await mkdir(path);
      await writeFile(join(path, 'provider'), `${provider}\n`);
      await writeFile(join(path, 'generation'), '0\n');
      await writeFile(join(path, 'auxblob'), 'certificates');
    },
    writeFile: async (path, bytes) => {
      expect(basename(path)).toBe('inblob');
      await bump(dirname(path));
      await writeFile(join(dirname(path), 'outblob'), Buffer.concat([Buffer.from('Q'), bytes]));
      await disturb(dirname(path));
    },
    readFile: (path) => readFile(path),
    rmdir: (path) => rm(path, { recursive: true }),
  };
  return { files, bump };
}

describe('the kernel', () => {
  it.each([
    ['tdx_guest', 'tdx', null],
    ['sev_guest', 'sev-snp', Uint8Array.from(Buffer.from('certificates'))],
  ])('signs by %s, and nothing of the request is left', async (provider, tee, certificates) => {
    const { files } = kernel(provider);
    const found = await collectByTsm(DATA, { folder: scratch, entry: 'ours', files });
    expect(found).toMatchObject({ tee, certificates, eventLog: null });
    expect(toHex(found.evidence)).toBe(`51${toHex(DATA)}`);
    expect(readdirSync(scratch)).toEqual([]);
  });

  it('is asked again where others wrote in between, and is given up in the end', async () => {
    let times = 0;
    const { files, bump } = kernel('tdx_guest', async (folder) => {
      times += 1;
      if (times < 3) await bump(folder);
    });
    await collectByTsm(DATA, { folder: scratch, entry: 'ours', files });
    expect(times).toBe(3);
    const busy = kernel('tdx_guest', (folder) => busy.bump(folder));
    const options = { folder: scratch, entry: 'ours', files: busy.files };
    await expect(collectByTsm(DATA, options)).rejects.toThrow('others kept writing');
    expect(existsSync(join(scratch, 'ours'))).toBe(false);
  });

  it('says what it does not know or may not do', async () => {
    const options = { folder: scratch, entry: 'ours', files: kernel('arm_cca_guest').files };
    await expect(collectByTsm(DATA, options)).rejects.toThrow('arm_cca_guest is not known');
    await mkdir(join(scratch, 'taken'));
    const taken = collectByTsm(DATA, { folder: scratch, entry: 'taken' });
    await expect(taken).rejects.toMatchObject({
      code: 'not-available',
      message: expect.stringMatching(/EEXIST/),
    });
    expect(existsSync(join(scratch, 'taken'))).toBe(true);
    await expect(collectByTsm(DATA.slice(1), options)).rejects.toThrow('64 bytes');
  });
});

type Answers = Readonly<Record<string, (body: Record<string, string>) => unknown>>;

describe("dstack's guest agent", () => {
  let server: Server;
  afterEach(() => server.close());

  async function agent(answers: Answers): Promise<{ socket: string }> {
    server = createServer(async (incoming, outgoing) => {
      const chunks: Buffer[] = [];
      for await (const chunk of incoming) chunks.push(chunk);
      const answer = answers[incoming.url ?? ''];
      const body = JSON.parse(Buffer.concat(chunks).toString());
      const said = incoming.method === 'POST' ? answer?.(body) : undefined;
      outgoing.statusCode = said === undefined ? 404 : 200;
      outgoing.end(typeof said === 'string' ? said : JSON.stringify(said ?? {}));
    });
    const socket = join(scratch, 'agent.sock');
    server.listen(socket);
    await once(server, 'listening');
    return { socket };
  }

  const quote = ({ report_data }: Record<string, string>) => ({
    quote: `04${report_data}`,
    event_log: '[]',
    report_data,
    vm_config: '{"num_gpus":8}',
  });
  const info = () => ({ app_id: 'abc', tcb_info: '{"app_compose":"é"}' });

  it('gives the quote, the log and the application', async () => {
    const options = await agent({ '/GetQuote': quote, '/Info': info });
    expect(await collectByDstack(DATA, options)).toEqual({
      tee: 'tdx',
      evidence: Uint8Array.of(4, ...DATA),
      certificates: null,
      eventLog: '[]',
      vmConfig: '{"num_gpus":8}',
      info: info(),
    });
    const sources = { dstackSockets: ['/nonexistent', options.socket] };
    const sought = await seekCpuEvidence(DATA, sources, { entry: 'ours' });
    expect(sought.found?.tee).toBe('tdx');
  });

  it.each<[string, Answers, string]>([
    ['an error', { '/GetQuote': () => ({ error: 'no TDX' }) }, 'is an error: no TDX'],
    ['a page', { '/GetQuote': () => '<html>' }, 'is not JSON'],
    ['nothing', {}, 'has status 404'],
    ['no quote', { '/GetQuote': () => ({ event_log: '' }) }, 'quote: '],
    [
      'no hexadecimal',
      { '/GetQuote': () => ({ quote: 'zz', event_log: '' }), '/Info': info },
      'is not hexadecimal',
    ],
    ['no application', { '/GetQuote': quote, '/Info': () => [] }, "the guest agent's info"],
    [
      "someone else's quote",
      { '/GetQuote': () => quote({ report_data: '00' }) },
      'over other report data',
    ],
    ['too much', { '/GetQuote': () => ' '.repeat(9_000_000) }, 'more than 8388608 bytes'],
  ])('that answers with %s is refused', async (_, answers, message) => {
    const options = await agent(answers);
    await expect(collectByDstack(DATA, options)).rejects.toThrow(message);
  });

  it('that does not answer is given up', async () => {
    const { socket } = await agent({});
    server.removeAllListeners('request');
    const controller = new AbortController();
    const asked = collectByDstack(DATA, { socket, signal: controller.signal });
    await once(server, 'request');
    controller.abort();
    await expect(asked).rejects.toMatchObject({ code: 'not-available' });
  });
});

it('a machine without either says so', async () => {
  const sources = {
    nvmlLibrary: join(scratch, 'none.so'),
    tsmFolder: join(scratch, 'none'),
    dstackSockets: [],
  };
  const cpu = await seekCpuEvidence(DATA, sources, { entry: 'ours' });
  expect(cpu).toMatchObject({
    found: null,
    reason: expect.stringMatching(/^no TEE: neither .*none nor/),
  });
  const gpu = await seekGpuEvidence(DATA.slice(32), sources);
  expect(gpu).toMatchObject({ found: null, reason: expect.stringMatching(/could not be opened/) });
});
