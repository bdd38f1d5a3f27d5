import { GatewayError } from './errors.ts';

export interface ServerEvent {
  readonly event: string;
  readonly data: string;
}

/** Reads server-sent events as their bytes come. */
export class EventReader {
  readonly #maxBytes: number;
  readonly #decoder = new TextDecoder();
  #rest = '';

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** The events that are whole now. Throws GatewayError 'no-control' for one without an end. */
  push(bytes: Uint8Array): ServerEvent[] {
    const blocks = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split(
      /\r\n\r\n|\n\n|\r\r/,
    );
    this.#rest = blocks.pop()!;
    if (this.#rest.length > this.#maxBytes) {
      throw new GatewayError('no-control', 'it sends an event without an end');
    }
    return blocks.map(readEvent).filter(({ data }) => data !== '');
  }
}

function readEvent(block: string): ServerEvent {
  let event = 'message';
  const data: string[] = [];
  for (const line of block.split(/\r\n|\n|\r/)) {
    const [, field, value = ''] = /^(\w+)(?:: ?(.*))?$/.exec(line) ?? [];
    if (field === 'event') event = value;
    else if (field === 'data') data.push(value);
  }
  return { event, data: data.join('\n') };
}
