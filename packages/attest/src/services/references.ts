import { z } from 'zod';
import type { ReferenceSource } from '../claims/context.ts';
import { fromBase64, fromUtf8 } from '../core/bytes.ts';
import { demand } from '../core/errors.ts';
import { parseJson, readShape } from '../core/json-shape.ts';
import { ask, type Http } from './http.ts';
import type { ByteStore } from './store.ts';

/** NVIDIA's service of reference measurements. */
const NVIDIA_RIM_SERVICE = 'https://rim.attestation.nvidia.com';

const ANSWER_BYTES_MAX = 2 * 1024 * 1024;
const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const answer = z.looseObject({ id: z.string(), rim: z.string() });

/** Ids come from evidence: nothing in one may mean anything to a path or an address. */
export function isReferenceId(id: string): boolean {
  return ID.test(id) && !id.includes('..');
}

/**
 * RIMs by HTTP as NVIDIA's service serves them: `GET {base}/v1/rim/{id}`. Rejects with AttestError
 * 'not-available', 'too-large' or 'malformed' when the service cannot be asked or answers nonsense.
 */
export function referenceService(http: Http, base: string = NVIDIA_RIM_SERVICE): ReferenceSource {
  return {
    async rim(id) {
      if (!isReferenceId(id)) return null;
      const url = `${base}/v1/rim/${encodeURIComponent(id)}`;
      const headers = { accept: 'application/json' };
      const body = await ask(http, { url, headers, answerBytesMax: ANSWER_BYTES_MAX });
      if (body === null) return null;
      const what = `the answer of the RIM service about ${id}`;
      const json = parseJson(fromUtf8(body, what), ANSWER_BYTES_MAX, what);
      const found = readShape(answer, json, what);
      demand(found.id === id, 'malformed', `${what} is about ${found.id}`);
      return fromBase64(found.rim, what);
    },
  };
}

/** Whether a file's name (without folders) is that of a RIM: its id, if need be behind `…_`. */
export function isReferenceFile(name: string, id: string): boolean {
  const stem = name.replace(/\.(?:xml|swidtag|rim)$/i, '');
  return stem !== name && (stem === id || stem.endsWith(`_${id}`));
}

/** The first source that has it; rejects where one before that cannot be asked. */
export function firstReference(sources: readonly ReferenceSource[]): ReferenceSource {
  return {
    async rim(id) {
      for (const source of sources) {
        const bytes = await source.rim(id);
        if (bytes !== null) return bytes;
      }
      return null;
    },
  };
}

/** Asks the store first. RIMs never change under their id, so what is kept stays good. */
export function keptReferences(source: ReferenceSource, store: ByteStore): ReferenceSource {
  return {
    async rim(id) {
      if (!isReferenceId(id)) return null;
      const name = `rim-${id}.xml`;
      const kept = await store.get(name);
      if (kept !== null) return kept;
      const bytes = await source.rim(id);
      if (bytes !== null) await store.put(name, bytes);
      return bytes;
    },
  };
}
