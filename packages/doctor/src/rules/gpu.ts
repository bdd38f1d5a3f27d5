import { parallelGpus } from '../command/queries.ts';
import { defineRule } from '../rule.ts';
import { compareVersions } from '../version.ts';
import { SOURCES } from './sources.ts';

/** R550's release notes; nobody has confirmed it for Blackwell. */
const MAX_CONTEXTS = 18;
const BLACKWELL_HGX: readonly string[] = ['b200', 'b300'];

/** GPUs, their driver, and who else uses them. */
export const GPU_RULES = [
  defineRule({
    id: 'driver-without-cc-settings',
    severity: 'warning',
    title: 'The driver cannot tell protected PCIe',
    consequence:
      'The older NVML call reports ccFeature 0 under protected PCIe: engines that ask it take ' +
      'a confidential machine for an ordinary one and keep their fast paths.',
    remedy: 'Install a driver with nvmlSystemGetConfComputeSettings.',
    sources: [SOURCES.nvml],
    needs: ['confidentialSettings'],
    check: ({ confidentialSettings: { multiGpuMode, ccFeature } }) =>
      multiGpuMode === null
        ? { evidence: `only nvmlSystemGetConfComputeState answered: ccFeature ${ccFeature}` }
        : null,
  }),
  defineRule({
    id: 'driver-before-multi-gpu-cc',
    severity: 'error',
    title: 'A driver without multi-GPU confidential computing on Blackwell',
    consequence: 'Several GPUs in one confidential VM (MPT) need encrypted NVLink, new in R590.',
    remedy: 'Install driver 590.48.01 or later in the guest, or use one GPU a VM.',
    sources: [SOURCES.modes],
    needs: ['confidential', 'gpuKind', 'gpuCount', 'driverVersion'],
    check: ({ confidential, gpuKind, gpuCount, driverVersion }) =>
      confidential &&
      BLACKWELL_HGX.includes(gpuKind) &&
      gpuCount > 1 &&
      compareVersions(driverVersion, [590]) < 0
        ? { evidence: `${gpuCount} ${gpuKind.toUpperCase()} and driver ${driverVersion.join('.')}` }
        : null,
  }),
  defineRule({
    id: 'single-gpu-cc-only',
    severity: 'error',
    title: 'Several RTX PRO 6000 in one confidential VM',
    consequence: 'The card has single-GPU passthrough only: its GPUs cannot form one CC group.',
    remedy: 'One GPU a VM, and a model that fits one.',
    sources: [SOURCES.modes],
    needs: ['confidential', 'gpuKind', 'gpuCount'],
    check: ({ confidential, gpuKind, gpuCount }) =>
      confidential && gpuKind === 'rtx-pro-6000' && gpuCount > 1
        ? { evidence: `${gpuCount} GPUs of that kind` }
        : null,
  }),
  defineRule({
    id: 'part-of-a-hopper-board',
    severity: 'error',
    title: 'A part of a Hopper board as a multi-GPU confidential VM',
    consequence:
      'Hopper has protected PCIe for all 8 GPUs and 4 switches in one VM, and single GPUs; ' +
      'no mode in between.',
    remedy: 'Use 1 GPU or all 8.',
    sources: [SOURCES.modes],
    needs: ['confidential', 'gpuKind', 'gpuCount'],
    check: ({ confidential, gpuKind, gpuCount }) =>
      confidential && (gpuKind === 'h100' || gpuKind === 'h200') && gpuCount > 1 && gpuCount !== 8
        ? { evidence: `${gpuCount} ${gpuKind.toUpperCase()}` }
        : null,
  }),
  defineRule({
    id: 'contexts-near-limit',
    severity: 'error',
    title: 'More CUDA contexts than confidential computing has channels for',
    consequence: `Contexts beyond ${MAX_CONTEXTS} in the whole system fail to be created.`,
    remedy: 'End other GPU processes, or ask for fewer ranks; loaders’ pools count too.',
    sources: [SOURCES.releaseNotes550],
    needs: ['confidential', 'engine', 'gpuProcesses'],
    check: ({ confidential, engine, gpuProcesses }) => {
      const present = gpuProcesses.reduce((sum, { pids }) => sum + pids.length, 0);
      const planned = parallelGpus(engine);
      return confidential && present + planned > MAX_CONTEXTS
        ? { evidence: `${present} contexts now and ${planned} planned` }
        : null;
    },
  }),
  defineRule({
    id: 'gpu-shared',
    severity: 'warning',
    title: 'Other processes on the GPU',
    consequence:
      'Contexts share the bridge and its secure channels: their crossings delay each other, and ' +
      'measurements taken now describe neither.',
    remedy: 'End them, or measure with them on purpose.',
    sources: [SOURCES.bridgeB200, SOURCES.releaseNotes550],
    needs: ['confidential', 'gpuProcesses'],
    check: ({ confidential, gpuProcesses }) => {
      const busy = gpuProcesses.filter(({ pids }) => pids.length > 0);
      const list = busy.map(({ index, pids }) => `GPU ${index}: ${pids.join(', ')}`).join('; ');
      return confidential && busy.length > 0 ? { evidence: `processes on ${list}` } : null;
    },
  }),
  defineRule({
    id: 'persistence-off',
    severity: 'warning',
    title: 'Persistence mode is off under confidential computing',
    consequence:
      'When the last client leaves, the driver may give up its secure session with the GPU: the ' +
      'next client waits for a new one, at worst for a reset.',
    remedy: 'Run nvidia-persistenced --uvm-persistence-mode from boot on.',
    sources: [SOURCES.persistence, SOURCES.inference],
    needs: ['confidential', 'persistence'],
    check: ({ confidential, persistence }) => {
      const off = persistence.filter(({ on }) => !on).map(({ index }) => index);
      return confidential && off.length > 0 ? { evidence: `off on GPU ${off.join(', ')}` } : null;
    },
  }),
];
