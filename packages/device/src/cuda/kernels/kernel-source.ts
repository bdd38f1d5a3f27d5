import { readdirSync, readFileSync } from 'node:fs';
import type { Program } from '@bridgekeeper/native';
import * as grammarLayout from '../../grammar-layout.ts';
import * as rowLayout from '../../row-layout.ts';

/** The translation units, and the kernels of each. */
export const KERNEL_UNITS = {
  rows: ['apply_command', 'begin_decode', 'advance', 'accept'],
  draft: ['draft'],
  layers: [
    ...(['embed', 'rms_norm', 'gate_mul', 'add_experts'] as const),
    ...(['select_lines', 'pool_lines', 'fill_uniform', 'matmul_any'] as const),
  ],
  linear: ['linear_store', 'linear_store_f32', 'linear_add', 'linear_gate'],
  'linear-skinny': ['linear_skinny'],
  'linear-widen': ['widen_fp8', 'widen_int4'],
  'int4-order': ['order_int4_awq', 'order_int4_gptq', 'join_int4_scales'],
  branches: [
    ...(['add_branch', 'norm_span', 'scale_by_position'] as const),
    ...(['sigmoid_gate', 'gate_lines', 'gate_span', 'finish_logits'] as const),
  ],
  'delta-net': ['causal_conv', 'delta_rule', 'gated_norm'],
  'head-linear': ['head_linear'],
  'latent-attention': ['write_latents', 'latent_attention', 'join_latents'],
  'latent-attention-hopper': ['latent_attention_hopper'],
  route: ['choose_experts', 'group_by_expert'],
  experts: ['expert_gate', 'expert_down'],
  'experts-stream': ['expert_gate_stream', 'expert_down_stream'],
  'experts-tile': ['expert_gate_tile', 'expert_down_tile'],
  'experts-hopper': ['expert_gate_hopper', 'expert_down_hopper', 'order_inputs'],
  rope: ['rope_write_kv'],
  'attention-decode': ['attention_decode'],
  'attention-prefill': ['attention_prefill'],
  'attention-prefill-hopper': ['attention_prefill_hopper'],
  sampling: ['sample', 'prompt_logprobs'],
  grammar: ['grammar_mask'],
  collective: [
    ...(['all_reduce_local', 'all_gather_local', 'all_reduce_pull'] as const),
    ...(['all_reduce_scatter', 'all_reduce_push', 'all_gather_pull'] as const),
    'copy_from_peer',
  ],
  pages: ['gather_pages', 'scatter_pages'],
  place: ['place_lines', 'place_transposed'],
  digest: ['checksum_parts', 'checksum_total', 'hash_pieces'],
} as const;
export type KernelUnit = keyof typeof KERNEL_UNITS;
export type KernelName = (typeof KERNEL_UNITS)[KernelUnit][number];

const FOLDER = new URL('../../../kernels/', import.meta.url);
const HEADERS = readdirSync(FOLDER).filter((name) => name.endsWith('.cuh'));

/** Names fixed when a unit is compiled: `HEAD_DIM` and the like. */
export type KernelDefines = Readonly<Record<string, number>>;

/** A kernel that would be launched. */
export interface WantedKernel {
  readonly name: KernelName;
  readonly defines: KernelDefines | undefined;
}

/** What NVRTC compiles for a unit. `architecture` is a machine's own: `sm_90a`. */
export function kernelProgram(
  unit: KernelUnit,
  architecture: string,
  defines: KernelDefines = {},
): Program {
  return {
    name: `${unit}.cu`,
    source: readKernel(`${unit}.cu`),
    headers: {
      'row-layout.h': rowLayoutHeader(),
      ...Object.fromEntries(HEADERS.map((name) => [name, readKernel(name)])),
    },
    options: [
      `--gpu-architecture=${architecture}`,
      '-std=c++17',
      '-default-device',
      // In one order, whatever the caller's: the same program has the same name in every cache.
      ...Object.entries(defines)
        .map(([name, value]) => `-D${name}=${value}`)
        .sort(),
    ],
  };
}

function readKernel(name: string): string {
  return readFileSync(new URL(name, FOLDER), 'utf8');
}

/**
 * row-layout.ts and grammar-layout.ts as C++: `ROW.ACTIVE` is `ROW::ACTIVE`, `MAX_BIAS` keeps its
 * name.
 */
export function rowLayoutHeader(): string {
  const lines = ['#pragma once'];
  const constant = (name: string, value: number) =>
    value > 0x7fffffff
      ? `constexpr unsigned ${name} = ${value}u;`
      : `constexpr int ${name} = ${value};`;
  // Not every unit uses them.
  const bytes = (name: string, values: readonly number[]) =>
    `[[maybe_unused]] static __device__ const unsigned char ${name}[] = {${values.join(', ')}};`;
  for (const [name, value] of Object.entries({ ...rowLayout, ...grammarLayout })) {
    if (typeof value === 'number') lines.push(constant(name, value));
    if (Array.isArray(value)) lines.push(bytes(name, value));
    if (typeof value !== 'object' || Array.isArray(value)) continue;
    const fields = Object.entries(value).map(([field, word]) => constant(field, word));
    lines.push(`namespace ${name} {`, ...fields, '}');
  }
  return `${lines.join('\n')}\n`;
}
