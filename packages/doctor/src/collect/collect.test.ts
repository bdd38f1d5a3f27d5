import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { CommandError, settingsWith } from '@bridgekeeper/server';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { optionNumber } from '../command/queries.ts';
import { readPlannedEngine, readRunningEngine } from './engine.ts';
import { collectFacts } from './facts.ts';
import { descends, readGpus } from './gpus.ts';
import { readMachine } from './machine.ts';

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'doctor-'));
});
afterAll(() => rmSync(scratch, { recursive: true }));

/** A root folder with these files in it. */
function rootWith(files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(scratch, 'root-'));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

describe('the machine', () => {
  test('is read from the real /proc without surprises', () => {
    const facts = readMachine();
    expect(facts.cpuFlags.known).toBe(true);
    expect(facts.memlockBytes).toMatchObject({ known: true });
    expect(facts.memoryBytes).toMatchObject({ known: true });
    if (facts.memoryBytes.known) expect(facts.memoryBytes.value).toBeGreaterThan(2 ** 27);
  });

  test('is read in full, and the tightest control group counts', () => {
    const root = rootWith({
      'proc/cpuinfo': 'processor : 0\nflags\t\t: fpu aes tdx_guest\n',
      'proc/meminfo': 'MemTotal:  1048576 kB\nSwapTotal:  2048 kB\n',
      'proc/7/limits': 'Max locked memory         8388608              unlimited   bytes\n',
      'proc/7/cgroup': '0::/a/b\n',
      'sys/fs/cgroup/a/b/memory.max': 'max\n',
      'sys/fs/cgroup/a/memory.max': '4096\n',
      'sys/kernel/mm/transparent_hugepage/enabled': 'always [madvise] never\n',
    });
    const facts = readMachine({ root, pid: 7 });
    expect(facts.guest).toMatchObject({ known: true, value: 'tdx' });
    expect(facts.memlockBytes).toMatchObject({ value: 8 * 2 ** 20 });
    expect(facts.memoryBytes).toMatchObject({ value: 4096 });
    expect(facts.swapBytes).toMatchObject({ value: 2 * 2 ** 20 });
    expect(facts.transparentHugepages).toMatchObject({ value: 'madvise' });
  });

  test('of AMD is told by its device; what is missing or odd is unknown, with the path', () => {
    const amd = rootWith({ 'proc/cpuinfo': 'flags: aes\n', 'sys/class/misc/sev-guest/uevent': '' });
    expect(readMachine({ root: amd }).guest).toMatchObject({ value: 'sev-snp' });
    for (const root of [
      rootWith({}),
      rootWith({
        'proc/cpuinfo': 'odd',
        'proc/meminfo': 'odd',
        'proc/self/limits': 'odd',
        'sys/kernel/mm/transparent_hugepage/enabled': 'odd',
      }),
    ]) {
      for (const fact of Object.values(readMachine({ root }))) {
        expect(fact).toMatchObject({ known: false, reason: expect.stringMatching(/proc|sys/) });
      }
    }
  });
});

/** A confidential H100 with one process, its NVML compiled from this. */
const NVML_STUB = `
#include <string.h>
static int text(const char* from, char* to) { strcpy(to, from); return 0; }
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char* to, unsigned n) { return text("595.91.07", to); }
int nvmlDeviceGetCount_v2(unsigned* count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) { *device = &text; return 0; }
int nvmlDeviceGetName(void* device, char* to, unsigned n) { return text("NVIDIA H100 NVL", to); }
int nvmlDeviceGetUUID(void* device, char* to, unsigned n) { return text("GPU-a", to); }
int nvmlSystemGetConfComputeSettings(unsigned* s) { s[1] = 2; s[2] = 1; s[3] = 1; return 0; }
int nvmlSystemGetConfComputeGpusReadyState(unsigned* ready) { *ready = 0; return 0; }
int nvmlDeviceGetPersistenceMode(void* device, unsigned* mode) { *mode = 0; return 0; }
int nvmlDeviceGetMigMode(void* device, unsigned* now, unsigned* next) { return 3; }
int nvmlDeviceGetComputeRunningProcesses_v3(void* device, unsigned* count, unsigned* infos) {
  *count = 2;
  infos[0] = PID;
  infos[6] = 4194303;
  return 0;
}
`;
const hasCompiler = spawnSync('gcc', ['--version']).status === 0;

describe('GPUs', () => {
  test.each(hasCompiler ? ['a stub'] : [])('are read through %s of NVML', () => {
    const source = join(scratch, 'nvml.c');
    const libraryPath = join(scratch, 'libnvml.so');
    writeFileSync(source, NVML_STUB);
    const define = `-DPID=${process.pid}`;
    const built = spawnSync('gcc', ['-shared', '-fPIC', define, '-o', libraryPath, source]);
    expect(built.status).toBe(0);
    expect(readGpus({ libraryPath, pid: process.pid })).toMatchObject({
      confidential: { known: true, value: true },
      confidentialSettings: { value: { devTools: true, multiGpuMode: 'none' } },
      gpusReady: { value: false },
      keyRotationAttackerAdvantage: { known: false },
      driverVersion: { value: [595, 91, 7] },
      gpuKind: { value: 'h100' },
      gpuCount: { value: 1 },
      persistence: { value: [{ index: 0, on: false }] },
      mig: { value: [{ index: 0, on: false }] },
      gpuProcesses: { value: [{ index: 0, pids: [4194303] }] },
    });
  });

  test('are unknown without NVML, with what brings it', () => {
    for (const fact of Object.values(readGpus({ libraryPath: '/nowhere/libnvidia-ml.so' }))) {
      const reason = expect.stringContaining('could not be opened');
      expect(fact).toEqual({ known: false, reason });
    }
  });

  test('know the inspected process and its descendants', () => {
    expect(descends(process.pid, process.pid)).toBe(true);
    expect(descends(process.pid, process.ppid)).toBe(true);
    expect(descends(process.ppid, process.pid)).toBe(false);
    expect(descends(process.pid, undefined)).toBe(false);
  });
});

/** Runs an engine that is none: a script of that name, which sleeps. Resolves once it runs. */
async function startFake(environment: Readonly<Record<string, string>>): Promise<ChildProcess> {
  const folder = join(scratch, 'venv/bin');
  mkdirSync(folder, { recursive: true });
  const packages = join(scratch, 'venv/lib/python3.12/site-packages');
  mkdirSync(join(packages, 'vllm-0.29.0rc1.dist-info'), { recursive: true });
  writeFileSync(join(scratch, 'serve.yaml'), 'cpu-offload-gb: 7\n');
  const script = join(folder, 'vllm');
  writeFileSync(script, 'console.log("up"); setInterval(() => {}, 1000);');
  const options = ['--config', 'serve.yaml', '--compilation-config', '{"a": "b c"}'];
  const child = spawn(process.execPath, [script, 'serve', 'm', ...options], {
    cwd: scratch,
    env: environment,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  return child;
}

describe('an engine', () => {
  test('that runs is read from /proc: command, file, version, known variables', async () => {
    const environment = { VLLM_USE_V2_MODEL_RUNNER: '1', VLLM_API_KEY: 'hunter2' };
    const child = await startFake(environment);
    try {
      const { engine, engineVersion, notes } = readRunningEngine(child.pid!);
      expect(notes).toEqual([]);
      expect(engineVersion).toMatchObject({ value: [0, 29, 0], from: 'vllm-0.29.0rc1.dist-info' });
      if (!engine.known) throw new Error(engine.reason);
      expect([...engine.value.variables]).toEqual([['VLLM_USE_V2_MODEL_RUNNER', '1']]);
      expect(engine.value.source).toContain(`--compilation-config '{"a": "b c"}'`);
      expect(optionNumber(engine.value, 'cpu-offload-gb')).toBe(7);
      expect(JSON.stringify([...engine.value.variables])).not.toContain('hunter2');
    } finally {
      child.kill();
    }
  });

  test('that is none, or gone, is refused', () => {
    expect(() => readRunningEngine(process.pid)).toThrow(CommandError);
    expect(() => readRunningEngine(4194304)).toThrow('ENOENT');
  });

  test('whose environment cannot be read is judged without, and says so', () => {
    const root = rootWith({ 'proc/5/cmdline': 'vllm\0serve\0m\0' });
    const { engine, engineVersion, notes } = readRunningEngine(5, root);
    expect(engine).toMatchObject({ known: true, value: { source: 'vllm serve m' } });
    expect(engineVersion.known).toBe(false);
    expect(notes).toEqual([expect.stringContaining('variables are taken as not set')]);
  });

  test('that is planned says which, and whether its file could be read', () => {
    const tagged = readPlannedEngine('docker run vllm/vllm-openai:v0.28.0 --model m', new Map());
    expect(tagged.engineVersion).toMatchObject({ value: [0, 28, 0] });
    const list = join(scratch, 'list.yaml');
    writeFileSync(list, '- a');
    for (const [path, why] of [
      ['/nowhere.yaml', 'ENOENT'],
      [list, 'not a YAML map'],
    ]) {
      const { engine, notes } = readPlannedEngine(`vllm serve m --config ${path}`, new Map());
      expect(engine.known && engine.value.file).toBeNull();
      expect(notes).toEqual([expect.stringContaining(why!)]);
    }
  });
});

test('what is planned for elsewhere is not judged by this machine', () => {
  const base = { settings: settingsWith({}), engineVariables: new Map<string, string>() };
  const engineCommand = 'vllm serve m -tp 4';
  const { facts } = collectFacts({
    ...base,
    engineCommand,
    assumeConfidential: true,
    assumeGpu: 'b300',
    engineVersion: [0, 29],
  });
  expect(facts.confidential).toEqual({ known: true, value: true, from: '--assume-cc' });
  expect(facts.gpuCount).toMatchObject({ value: 4 });
  expect(facts.engineVersion).toMatchObject({ value: [0, 29] });
  expect(facts.cpuFlags).toMatchObject({ known: false });
  const here = collectFacts({ ...base, engineCommand });
  expect(here.facts.cpuFlags.known).toBe(true);
  expect(here.notes.length).toBe(here.facts.confidential.known ? 0 : 1);
});
