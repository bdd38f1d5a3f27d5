import { ClientError } from './errors.ts';

/** Reads a stream of at most `bytesMax` to its end. Throws ClientError 'too-large'. */
export async function readBounded(
  stream: ReadableStream<Uint8Array> | null,
  bytesMax: number,
  what: string,
): Promise<Uint8Array<ArrayBuffer>> {
  if (stream === null) return new Uint8Array();
  const parts: Uint8Array[] = [];
  let length = 0;
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > bytesMax) {
      await reader.cancel().catch(() => undefined);
      throw new ClientError('too-large', `${what} is larger than ${bytesMax} bytes`);
    }
    parts.push(value);
  }
  const whole = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}
