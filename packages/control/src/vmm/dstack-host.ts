import { z } from 'zod';
import { HostFacts } from '../api/fleet.ts';
import { ControlError } from '../errors.ts';
import { DstackVmm } from './dstack.ts';
import type { Vmm } from './vmm.ts';

const positive = z.int().min(1);
const document = z.strictObject({
  url: z.url(),
  token: z.string().nullable().default(null),
  images: z.record(
    z.string(),
    z.strictObject({
      image: z.string(),
      composeFile: z.string(),
      vcpus: positive,
      memoryMib: positive,
      diskGib: positive,
      port: z.int().min(1).max(65_535),
    }),
  ),
  slots: z.record(z.coerce.number().pipe(z.int().min(1).max(16)), z.string().max(64)),
  ports: z.strictObject({
    host: z.string().max(256),
    first: z.int().min(1).max(65_535),
    count: positive,
  }),
  /** What the VMM cannot say: the operator does. */
  facts: HostFacts,
});

/** A host of dstack, as its operator describes it in a file. Throws ControlError 'bad-request'. */
export function dstackHost(text: string, deadline: () => AbortSignal): Vmm {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new ControlError('bad-request', 'the description of the host is no JSON', { cause });
  }
  const read = document.safeParse(json);
  if (!read.success) {
    const [issue] = read.error.issues;
    const where = issue!.path.map(String).join('.');
    throw new ControlError(
      'bad-request',
      `the description of the host: ${where}: ${issue!.message}`,
    );
  }
  const { facts, ...options } = read.data;
  return new DstackVmm({ ...options, facts: async () => facts, deadline });
}
