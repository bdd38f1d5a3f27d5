import { settingsWith } from '@bridgekeeper/server';
import { type EngineFile, readEngineCommand } from '../command/engine-command.ts';
import { type Facts, type FactValues, known } from '../facts.ts';
import { parseVersion } from '../version.ts';

/** A sound machine in confidential mode, and a command that no rule minds. */
const SOUND: FactValues = {
  confidential: true,
  confidentialSettings: {
    environment: 'production',
    ccFeature: 1,
    devTools: false,
    multiGpuMode: 'none',
  },
  gpusReady: true,
  keyRotationAttackerAdvantage: 0,
  driverVersion: [595, 58, 3],
  gpuKind: 'b300',
  gpuCount: 8,
  persistence: [{ index: 0, on: true }],
  mig: [{ index: 0, on: false }],
  gpuProcesses: [{ index: 0, pids: [] }],
  guest: 'tdx',
  cpuFlags: new Set(['aes', 'vaes', 'vpclmulqdq', 'tdx_guest']),
  memlockBytes: Number.POSITIVE_INFINITY,
  transparentHugepages: 'madvise',
  swapBytes: 0,
  memoryBytes: 2 ** 40,
  engine: readEngineCommand(
    'VLLM_USE_V2_MODEL_RUNNER=0 vllm serve m --no-async-scheduling --load-format runai_streamer',
  ),
  engineVersion: [0, 26, 0],
  settings: settingsWith({}),
};

/** The sound machine with some facts changed. */
export function factsWith(changes: Partial<FactValues> = {}): Facts {
  const values = { ...SOUND, ...changes };
  const entries = Object.entries(values).map(([name, value]) => [name, known(value, 'a test')]);
  return Object.fromEntries(entries) as unknown as Facts;
}

/** Facts of an engine's command, of the settings in its file, and of its version. */
export function engineFacts(
  source: string,
  version = '0.29.0',
  settings?: EngineFile['settings'],
): Partial<FactValues> {
  const file = settings === undefined ? null : { path: 'engine.yaml', settings };
  return { engine: readEngineCommand(source, { file }), engineVersion: parseVersion(version)! };
}
