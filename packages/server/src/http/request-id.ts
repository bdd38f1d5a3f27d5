import { randomUUID } from 'node:crypto';

const ACCEPTABLE = /^[A-Za-z0-9._:-]{1,128}$/;

/** The client's own id where it is short and harmless in a header and a log line, or a new one. */
export function requestIdFrom(header: string | null | undefined): string {
  return header != null && ACCEPTABLE.test(header) ? header : randomUUID().replaceAll('-', '');
}
