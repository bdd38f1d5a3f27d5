import { defineRule } from '../rule.ts';
import { SOURCES } from './sources.ts';

/** The state of confidential computing: is it on, is it whole, does it take work. */
export const CONFIDENTIAL_RULES = [
  defineRule({
    id: 'gpu-not-confidential',
    severity: 'critical',
    title: 'A confidential VM with a GPU outside of its protection',
    consequence: 'What is computed on the GPU, and what crosses to it, is open to the host.',
    remedy: 'Have the host set the GPU’s CC mode on (gpu-admin-tools --set-cc-mode=on), reboot.',
    sources: [SOURCES.nvml],
    needs: ['guest', 'confidential'],
    check: ({ guest, confidential }) =>
      guest === 'plain' || confidential
        ? null
        : { evidence: `the guest is a ${guest} VM; the driver says confidential computing is off` },
  }),
  defineRule({
    id: 'cc-developer-tools',
    severity: 'critical',
    title: 'Confidential computing with developer tools on',
    consequence:
      'Protections are disabled for profiling and debugging: this is no production mode, and ' +
      'attestation with a sound policy refuses it.',
    remedy: 'Have the host set the GPU’s CC mode to on in place of devtools, and reboot the guest.',
    sources: [SOURCES.devTools, SOURCES.nvml],
    needs: ['confidentialSettings'],
    check: ({ confidentialSettings: { devTools } }) =>
      devTools ? { evidence: 'the driver reports developer tools on' } : null,
  }),
  defineRule({
    id: 'cc-simulated',
    severity: 'critical',
    title: 'Confidential computing is only simulated',
    consequence: 'Nothing is protected: the mode exists for development.',
    remedy: 'Use a host and GPU that provide the production environment.',
    sources: [SOURCES.nvml],
    needs: ['confidentialSettings'],
    check: ({ confidentialSettings: { environment } }) =>
      environment === 'simulation' ? { evidence: 'the driver reports a simulation' } : null,
  }),
  defineRule({
    id: 'nvlink-encryption-alone',
    severity: 'critical',
    title: 'NVLink encryption taken for confidential computing',
    consequence:
      'NVLink between GPUs is encrypted, the bridge between VM and GPU is not. A check of the ' +
      'multi-GPU mode alone mistakes this for confidential computing; one shipped engine did.',
    remedy: 'Have the host set CC mode on; judge by ccFeature or protected PCIe, never by mode 2.',
    sources: [SOURCES.nvml],
    needs: ['confidentialSettings'],
    check: ({ confidentialSettings: { ccFeature, multiGpuMode } }) =>
      ccFeature === 0 && multiGpuMode === 'nvlink-encryption'
        ? { evidence: 'multi-GPU mode is NVLink encryption and ccFeature is 0' }
        : null,
  }),
  defineRule({
    id: 'gpus-not-ready',
    severity: 'error',
    title: 'The GPUs are not set ready',
    consequence: 'CUDA refuses all work until they are.',
    remedy: 'After attestation: nvidia-smi conf-compute -srs 1',
    sources: [SOURCES.nvidiaSmi],
    needs: ['confidential', 'gpusReady'],
    check: ({ confidential, gpusReady }) =>
      confidential && !gpusReady
        ? { evidence: 'confidential computing is on and the ready state is 0' }
        : null,
  }),
  defineRule({
    id: 'mig-under-cc',
    severity: 'error',
    title: 'MIG under confidential computing',
    consequence: 'The combination is not supported.',
    remedy: 'nvidia-smi -mig 0, and give each tenant whole GPUs.',
    sources: [SOURCES.platformLimits],
    needs: ['confidential', 'mig'],
    check: ({ confidential, mig }) => {
      const on = mig.filter((gpu) => gpu.on).map(({ index }) => index);
      return confidential && on.length > 0 ? { evidence: `MIG is on: GPU ${on.join(', ')}` } : null;
    },
  }),
  defineRule({
    id: 'protected-pcie-nvlink-plain',
    severity: 'info',
    title: 'Protected PCIe leaves NVLink in plaintext',
    consequence:
      'Traffic between GPUs is protected by the closed set of 8 GPUs and 4 switches, not by ' +
      'encryption: the switches are part of what has to be attested.',
    remedy: 'Attest all 8 GPUs and 4 switches together, and give them to one VM only.',
    sources: [SOURCES.modes],
    needs: ['confidentialSettings'],
    check: ({ confidentialSettings: { multiGpuMode } }) =>
      multiGpuMode === 'protected-pcie' ? { evidence: 'multi-GPU mode is protected PCIe' } : null,
  }),
  defineRule({
    id: 'keys-rotate',
    severity: 'info',
    title: 'Session keys rotate',
    consequence: 'The channel blocks, drains and goes on: expect a spike of latency now and then.',
    remedy: 'Nothing to repair: keep it in mind when the slowest requests are judged.',
    sources: [SOURCES.nvmlRotation],
    needs: ['confidential', 'keyRotationAttackerAdvantage'],
    check: ({ confidential, keyRotationAttackerAdvantage }) =>
      confidential && keyRotationAttackerAdvantage > 0
        ? { evidence: `NVML’s attacker advantage is ${keyRotationAttackerAdvantage}` }
        : null,
  }),
];
