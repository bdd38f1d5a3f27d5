import type { Source } from '../rule.ts';

const measured = (name: string): Source => ({ name, basis: 'measured' });
const documented = (name: string): Source => ({ name, basis: 'documented' });

/** Where rules have it from. One name for each, so that the list can be checked. */
export const SOURCES = {
  serializedBridge: measured('The Serialized Bridge (Phala), arXiv 2606.23969'),
  bridgeB200: measured('B200 under TDX, arXiv 2608.26575'),
  tinfoilBandwidth: measured('Tinfoil: B300 pinned 4 to 11, pageable 15 GB/s'),
  submission: measured('published kernel submission times of a confidential B300'),
  launchFlags: documented('launch flags of operators of confidential vLLM'),
  releaseNotes550: documented('NVIDIA Trusted Computing release notes R550 TRD3'),
  releaseNotes580: documented('NVIDIA Trusted Computing release notes R580 TRD1, RN-12523-001'),
  nvml: documented('nvml.h, nvmlSystemConfComputeSettings_v1_t'),
  nvmlRotation: documented('nvml.h, nvmlConfComputeGetKeyRotationThresholdInfo_v1_t'),
  nvidiaSmi: documented('nvidia-smi conf-compute --set-gpus-ready-state (-srs)'),
  devTools: documented('NVIDIA, Confidential Computing on H100: the modes CC-On and CC-DevTools'),
  modes: documented('NVIDIA secure AI modes: SPT, PPCIe (8 Hopper GPUs), MPT (R590, Blackwell)'),
  persistence: documented('NVIDIA/nvtrust#53, which refers to NVIDIA’s deployment guide'),
  platformLimits: documented('NVIDIA: under CC no MIG, and GPUDirect RDMA restricted'),
  forumIpc: documented('NVIDIA developer forum 339980'),
  vllm27614: documented('vllm-project/vllm#27614, on by default since 0.14.0'),
  vllm34891: documented('vllm-project/vllm#34891'),
  vllm42324: documented('vllm-project/vllm#42324'),
  vllm44443: documented('vllm-project/vllm#44443, release notes of 0.25.0'),
  vllm52226: documented('vllm-project/vllm#52226 (open)'),
  vllm55428: measured('vllm-project/vllm#55428 (open)'),
  vllm57224: documented('vllm-project/vllm#57224 (open)'),
  vllm57404: documented('vllm-project/vllm#57404 (open)'),
  vllm57680: measured('vllm-project/vllm#57680 (open)'),
  vllmNotes29: documented('release notes of vLLM 0.29.0'),
  eagerOnH200: measured('vLLM on a confidential H200: eager 9.8, graphs 77 tokens/s'),
  instantTensor: documented('scitix/InstantTensor, csrc/loader_common.cpp'),
  sglang15188: measured('sgl-project/sglang#15188'),
  sglang30364: documented('sgl-project/sglang#30364 (open)'),
  sglang31447: documented('sgl-project/sglang#31447 (open)'),
  sglang36798: documented('sgl-project/sglang#33968, #36798'),
  tensorrt8463: documented('NVIDIA/TensorRT-LLM#8463, #11573 (merged)'),
  tensorrt13693: documented('NVIDIA/TensorRT-LLM#13693 (closed)'),
  tensorrt17658: documented('NVIDIA/TensorRT-LLM#17658 (open)'),
  flashinfer3870: documented('flashinfer-ai/flashinfer#3870 (merged)'),
  flashinfer3993: documented('flashinfer-ai/flashinfer#3993 (merged)'),
  pytorchPinned: documented('PyTorch, c10 CachingHostAllocator: pinned_use_cuda_host_register'),
  fastLoad: measured('scitix/InstantTensor docs/benchmark.md: mmap loading 1.07 GB/s of 50'),
  memlock: documented('NVIDIA’s TensorRT-LLM containers run with --ulimit memlock=-1'),
  inference: { name: 'follows from what the machine or the command says', basis: 'inferred' },
} as const satisfies Readonly<Record<string, Source>>;

/** What doing without CUDA graphs costs, for the rules of each engine. */
export const EAGER_COST =
  'Each kernel is submitted over the bridge: a confidential H200 gave 9.8 tokens/s eager and 77 ' +
  'with graphs; on B200 a step of 181 kernels took 2.41 times as long, as one graph 1.04.';
