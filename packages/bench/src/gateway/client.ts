import { connect } from 'node:net';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import { requestOf, type StreamPlan } from './frames.ts';

export interface StreamsPlan extends StreamPlan {
  readonly streams: number;
}

export interface StreamsResult {
  readonly seconds: number;
  readonly tokens: number;
  /** Streams that ended otherwise than they should. */
  readonly broken: number;
}

/** Streams are opened over this time, so that they are not all due at once. */
const SPREAD_SECONDS = 1;

/** Reads so many streams at once, each to its end, and counts what came. */
export async function readStreams(
  port: number,
  { streams, ...plan }: StreamsPlan,
): Promise<StreamsResult> {
  const startedNs = HOST_CLOCK.nowNs();
  const answers: Promise<number>[] = [];
  for (let index = 0; index < streams; index++) {
    const request = requestOf(plan, `stream ${index}`);
    answers.push(readStream(port, request));
    const dueNs = startedNs + ((index + 1) / streams) * SPREAD_SECONDS * 1e9;
    if (HOST_CLOCK.nowNs() < dueNs) await HOST_CLOCK.sleepUntilNs(dueNs);
  }
  const counts = await Promise.all(answers);
  return {
    seconds: (HOST_CLOCK.nowNs() - startedNs) / 1e9,
    tokens: counts.reduce((sum, count) => sum + count, 0),
    broken: counts.filter((count) => count !== plan.tokens).length,
  };
}

const MARK = Buffer.from('data: {');

/** How often the mark is in what comes, wherever it is cut. */
class MarkCounter {
  count = 0;
  #tail: Buffer = Buffer.alloc(0);

  push(bytes: Buffer): void {
    // A mark that is cut is in the end of one part and the beginning of the next.
    const seam = Buffer.concat([this.#tail, bytes.subarray(0, MARK.length - 1)]);
    if (seam.includes(MARK)) this.count += 1;
    for (let at = bytes.indexOf(MARK); at >= 0; at = bytes.indexOf(MARK, at + MARK.length)) {
      this.count += 1;
    }
    this.#tail = Buffer.concat([this.#tail, bytes.subarray(-MARK.length)]).subarray(
      1 - MARK.length,
    );
  }
}

/** Tokens that came before the stream's proper end; -1: it had none. */
function readStream(port: number, request: Buffer): Promise<number> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const tokens = new MarkCounter();
    let end = '';
    socket.on('data', (chunk: Buffer) => {
      tokens.push(chunk);
      end = (end + chunk.toString('latin1', Math.max(0, chunk.length - 64))).slice(-64);
      if (end.includes('[DONE]') && end.endsWith('0\r\n\r\n')) socket.end();
    });
    socket.on('error', () => undefined);
    socket.once('close', () => resolve(end.includes('[DONE]') ? tokens.count : -1));
    socket.write(request);
  });
}

/** Seconds to the first token of one request after the other, over one connection. */
export class FirstTokenClient {
  readonly #socket: ReturnType<typeof connect>;
  #received: (bytes: Buffer) => void = () => undefined;

  constructor(port: number) {
    this.#socket = connect(port, '127.0.0.1');
    this.#socket.setNoDelay(true);
    this.#socket.on('data', (bytes) => this.#received(bytes));
  }

  async measure(padding: string): Promise<number> {
    const request = requestOf({ tokens: 1, tokensPerSecond: 1, burst: 1 }, padding);
    const startedNs = HOST_CLOCK.nowNs();
    let firstNs = 0;
    let tail = '';
    await new Promise<void>((resolve, reject) => {
      this.#socket.once('close', reject);
      this.#received = (bytes) => {
        tail += bytes.toString('latin1');
        if (firstNs === 0 && tail.includes('data: ')) firstNs = HOST_CLOCK.nowNs();
        if (!tail.endsWith('\r\n0\r\n\r\n')) return;
        this.#socket.removeAllListeners('close');
        resolve();
      };
      this.#socket.write(request);
    });
    return (firstNs - startedNs) / 1e9;
  }

  close(): void {
    this.#socket.removeAllListeners('close');
    this.#socket.destroy();
  }
}
