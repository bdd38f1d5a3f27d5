import { randomUUID } from 'node:crypto';
import type { ToolFormat } from '../formats/calls.ts';

/** A new id for a call, as OpenAI has them, or as the template of the model expects them. */
export function newCallId(style: ToolFormat['callIds']): string {
  const digits = randomUUID().replaceAll('-', '');
  return style === 'short' ? digits.slice(0, 9) : `call_${digits.slice(0, 24)}`;
}
