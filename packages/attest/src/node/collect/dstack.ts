import { request } from 'node:http';
import { z } from 'zod';
import { type Bytes, fromHex, toHex } from '../../core/bytes.ts';
import { AttestError, demand } from '../../core/errors.ts';
import { parseJson, readShape } from '../../core/json-shape.ts';
import { type CpuEvidence, REPORT_DATA_BYTES } from './cpu-evidence.ts';

/** Where dstack's guest agent listens, by version. */
export const DSTACK_SOCKETS = ['/var/run/dstack.sock', '/run/dstack/dstack.sock'] as const;

const ANSWER_BYTES_MAX = 8 * 1024 * 1024;

const quoteSchema = z.looseObject({
  quote: z.string().max(256 * 1024),
  event_log: z.string(),
  report_data: z.string().nullish(),
  vm_config: z.string().nullish(),
});

const infoSchema = z.looseObject({ app_id: z.string() });

export interface DstackOptions {
  readonly socket: string;
  /** Aborted: give up. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Has the CPU sign `reportData` (64 bytes) through dstack's guest agent, which adds its log of what
 * was measured and its description of the application. Throws AttestError 'not-available',
 * 'malformed' or 'too-large'.
 */
export async function collectByDstack(
  reportData: Bytes,
  options: DstackOptions,
): Promise<CpuEvidence> {
  demand(reportData.length === REPORT_DATA_BYTES, 'malformed', 'report data has 64 bytes');
  const what = "the guest agent's quote";
  const quote = readShape(
    quoteSchema,
    await call('/GetQuote', { report_data: toHex(reportData) }, options),
    what,
  );
  const echoed = quote.report_data ?? null;
  const isOurs = echoed === null || echoed.replace(/^0x/, '').toLowerCase() === toHex(reportData);
  demand(isOurs, 'binding-mismatch', `${what} is over other report data`);
  const info = await call('/Info', {}, options);
  return {
    tee: 'tdx',
    evidence: fromHex(quote.quote.replace(/^0x/, ''), what),
    certificates: null,
    eventLog: quote.event_log,
    vmConfig: quote.vm_config ?? null,
    info: readShape(infoSchema, info, "the guest agent's info"),
  };
}

/** One call of the agent: JSON over HTTP over a Unix socket. */
async function call(path: string, body: object, options: DstackOptions): Promise<unknown> {
  const { status, text } = await post(path, JSON.stringify(body), options);
  const named = `the guest agent's answer to ${path}`;
  demand(status === 200, 'not-available', `${named} has status ${status}`);
  const answer = parseJson(text, ANSWER_BYTES_MAX, named);
  const error = (answer as { error?: unknown } | null)?.error;
  if (error === undefined) return answer;
  throw new AttestError('not-available', `${named} is an error: ${String(error).slice(0, 200)}`);
}

function post(
  path: string,
  body: string,
  { socket, signal }: DstackOptions,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error) => {
      const message = `the guest agent at ${socket} did not answer: ${cause.message}`;
      reject(
        cause instanceof AttestError ? cause : new AttestError('not-available', message, { cause }),
      );
    };
    const headers = {
      'Content-Type': 'application/json',
      'Content-Length': Buffer.byteLength(body),
      Host: 'localhost',
    };
    const outgoing = request(
      { socketPath: socket, path, method: 'POST', agent: false, headers, signal },
      (incoming) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        incoming.on('error', fail);
        incoming.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
          chunks.push(chunk);
          if (bytes <= ANSWER_BYTES_MAX) return;
          const message = `the guest agent's answer has more than ${ANSWER_BYTES_MAX} bytes`;
          incoming.destroy(new AttestError('too-large', message));
        });
        incoming.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8');
          resolve({ status: incoming.statusCode ?? 0, text });
        });
      },
    );
    outgoing.on('error', fail);
    outgoing.end(body);
  });
}
