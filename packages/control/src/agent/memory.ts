import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from '@hono/zod-openapi';
import { HostDesired } from '../api/agent.ts';
import { ControlError } from '../errors.ts';
import { writeWhole } from '../whole-file.ts';

/** What an agent must not forget. */
const Memory = z.strictObject({
  /** When an agent with this memory last started, by its clock; later than all before it. */
  startedMs: z.int().min(0).default(0),
  desired: HostDesired.nullable(),
  /** Replicas of which a guest was begun: one that is gone is never begun again. */
  begun: z.array(
    z.strictObject({
      replica: z.string(),
      modules: z.array(z.int()),
      /** It was there: what is prepared for it anew, as after a restart of its host, is not it. */
      wasThere: z.boolean().default(false),
    }),
  ),
});

export type Memory = z.output<typeof Memory>;

const NOTHING: Memory = { startedMs: 0, desired: null, begun: [] };

export interface MemoryStore {
  read(): Memory;
  /** Either the old one or the new one is there, whatever happens; the new one from now on. */
  write(memory: Memory): void;
}

/** Throws ControlError 'store-broken', 'store-unavailable'. */
export function memoryFile(folder: string): MemoryStore {
  const path = join(folder, 'agent.json');
  return {
    read: () => {
      let text: string;
      try {
        text = readFileSync(path, 'utf8');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return NOTHING;
        throw unavailable(path, error);
      }
      try {
        return Memory.parse(JSON.parse(text));
      } catch (cause) {
        const message = `${path} cannot be read: look at what runs here, then remove it`;
        throw new ControlError('store-broken', message, { cause });
      }
    },
    write: (memory) => {
      try {
        mkdirSync(folder, { recursive: true, mode: 0o700 });
        writeWhole(path, JSON.stringify(memory));
      } catch (error) {
        throw unavailable(path, error);
      }
    },
  };
}

function unavailable(path: string, cause: unknown): ControlError {
  return new ControlError('store-unavailable', `${path}: ${(cause as Error).message}`, { cause });
}
