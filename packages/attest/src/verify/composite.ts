import { z } from 'zod';
import { fromBase64, utf8 } from '../core/bytes.ts';
import { AttestError } from '../core/errors.ts';
import { parseJson, readShape } from '../core/json-shape.ts';
import type { Wrapped } from './cmw.ts';

/*
 * What Confidential Containers send to Trustee: the evidence of a CPU and of the devices beside it,
 * in one document. Each part becomes a file of its own.
 */

const WHAT = 'the composite evidence';
const CHARACTERS_MAX = 8 * 1024 * 1024;
const PARTS_MAX = 16;

const composite = z.object({ primary_evidence: z.unknown(), additional_evidence: z.string() });
const request = z.object({ 'tee-evidence': composite });
const tdx = z.object({
  quote: z.string(),
  // The log of the firmware's ACPI table, and one that the attestation agent keeps.
  cc_eventlog: z.string().nullish(),
  aa_eventlog: z.unknown().optional(),
});

/** Whether a JSON object is such a document, whole or the part of one CPU. */
export function isComposite(json: object): boolean {
  const has = (key: string) => Object.hasOwn(json, key);
  const isPart = has('quote') && (has('cc_eventlog') || has('aa_eventlog'));
  return has('tee-evidence') || has('primary_evidence') || isPart;
}

/** Throws AttestError 'malformed', 'too-large' or 'unsupported-version'. */
export function readComposite(json: unknown): Wrapped[] {
  const has = (key: string) => Object.hasOwn(Object(json), key);
  if (has('tee-evidence')) return partsOf(readShape(request, json, WHAT)['tee-evidence']);
  return has('primary_evidence') ? partsOf(readShape(composite, json, WHAT)) : part(json, 'cpu');
}

function partsOf({ primary_evidence, additional_evidence }: z.output<typeof composite>): Wrapped[] {
  const more = additional_evidence === '' ? '{}' : additional_evidence;
  const others = readShape(
    z.record(z.string().max(64), z.unknown()),
    parseJson(more, CHARACTERS_MAX, WHAT),
    WHAT,
  );
  const entries = Object.entries(others);
  if (entries.length > PARTS_MAX) {
    throw new AttestError('too-large', `${WHAT} has ${entries.length} parts`);
  }
  return [...part(primary_evidence, 'primary'), ...entries.flatMap(([tee, one]) => part(one, tee))];
}

function part(json: unknown, label: string): Wrapped[] {
  const has = (key: string) => Object.hasOwn(Object(json), key);
  if (has('attestation_report')) {
    // Its report is written as a JSON object of an SDK's, from which no signed bytes follow.
    const message = `${label} of ${WHAT} has an SNP report that is not in bytes`;
    throw new AttestError('unsupported-version', message);
  }
  if (!has('quote') || !(has('cc_eventlog') || has('aa_eventlog'))) {
    return [{ label, type: 'evidence', bytes: utf8(JSON.stringify(json ?? null)) }];
  }
  const { quote, cc_eventlog: log } = readShape(tdx, json, WHAT);
  const quoted = { label: `${label}/quote`, type: 'quote', bytes: fromBase64(quote, 'the quote') };
  if (log === null || log === undefined || log === '') return [quoted];
  const bytes = fromBase64(log, 'the log');
  return [quoted, { label: `${label}/cc_eventlog`, type: 'log', bytes }];
}
