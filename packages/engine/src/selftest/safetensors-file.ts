import { writeFile } from 'node:fs/promises';

/** A tensor to write. */
export interface TensorData {
  readonly name: string;
  /** As the format spells it: BF16, F16, F32 ... */
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** A safetensors file from any header text, right or wrong, and data. */
export function safetensorsBytes(header: string, data: Uint8Array): Uint8Array {
  const text = new TextEncoder().encode(header);
  const file = new Uint8Array(8 + text.length + data.length);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  file.set(data, 8 + text.length);
  return file;
}

/**
 * Writes a well-formed safetensors file whose data lies in the order given. `startRemainder` is
 * where data starts modulo 8; undefined: wherever the header ends.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorData[],
  startRemainder?: number,
) {
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  let end = 0;
  for (const { name, dtype, shape, bytes } of tensors) {
    header[name] = { dtype, shape, data_offsets: [end, end + bytes.length] };
    end += bytes.length;
  }
  const data = new Uint8Array(end);
  let at = 0;
  for (const { bytes } of tensors) {
    data.set(bytes, at);
    at += bytes.length;
  }
  let text = JSON.stringify(header);
  while (startRemainder !== undefined && text.length % 8 !== startRemainder) text += ' ';
  await writeFile(path, safetensorsBytes(text, data));
}
