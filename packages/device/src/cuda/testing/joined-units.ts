import {
  KERNEL_UNITS,
  type KernelDefines,
  type KernelUnit,
  kernelProgram,
} from '../kernels/kernel-source.ts';

/** A unit, and the names fixed in it. */
export type UnitVariant = readonly [unit: KernelUnit, defines: KernelDefines];

/**
 * Many units as one source for nvcc, which takes ten times as long over headers of its own as over
 * a kernel. Each has a namespace, its own copy of every header, kernels of its own names, and no
 * macro of another's.
 */
export function joinedUnits(variants: readonly UnitVariant[]): string {
  return variants.map(([unit, defines], index) => asNamespace(unit, defines, index)).join('\n');
}

function asNamespace(unit: KernelUnit, defines: KernelDefines, index: number): string {
  const { name, source, headers } = kernelProgram(unit, 'any', defines);
  const text = inlined(name, source, headers, new Set());
  const given: Record<string, string | number> = { ...defines };
  for (const kernel of KERNEL_UNITS[unit]) given[kernel] = `${kernel}_${index}`;
  const own = [...text.matchAll(/^[ \t]*#[ \t]*define[ \t]+(\w+)/gm)].map(([, macro]) => macro!);
  return [
    ...Object.entries(given).map(([macro, value]) => `#define ${macro} ${value}`),
    `namespace unit_${index} {`,
    text,
    '}',
    ...[...new Set([...Object.keys(given), ...own])].map((macro) => `#undef ${macro}`),
  ].join('\n');
}

/** The text of a file with what it includes in its place: each once, as `#pragma once` has it. */
function inlined(
  name: string,
  text: string,
  headers: Readonly<Record<string, string>>,
  seen: Set<string>,
): string {
  const lines = text.split('\n').map((line, index) => {
    const header = /^#include "(.+)"$/.exec(line)?.[1];
    if (header === undefined) return line === '#pragma once' ? '' : line;
    const rest = `#line ${index + 2} "${name}"`;
    if (seen.has(header)) return rest;
    seen.add(header);
    return `${inlined(header, headers[header]!, headers, seen)}\n${rest}`;
  });
  return [`#line 1 "${name}"`, ...lines].join('\n');
}
