import type { CrossingRecord } from '@bridgekeeper/bridge';
import type { CopyRequest, Lane } from '../device.ts';
import { DeviceError } from '../errors.ts';
import type { Machine, ModelThread } from './machine.ts';
import { bufferOf, ModelHostBuffer } from './memory.ts';
import { ModelStream } from './model-stream.ts';

/** A thread that makes crossings exactly as the law says. */
export class ModelLane implements Lane {
  readonly id: string;
  readonly kind: 'inline' | 'worker';
  /** Of its context. */
  readonly channel: number;
  readonly #machine: Machine;
  /** The launching thread, or one of its own. */
  readonly #thread: ModelThread;
  readonly #onClose: () => Promise<void>;
  #lastCompletedNs = 0;
  #isClosed = false;

  constructor(
    machine: Machine,
    id: string,
    kind: 'inline' | 'worker',
    channel: number,
    onClose: () => Promise<void>,
  ) {
    this.id = id;
    this.kind = kind;
    this.channel = channel;
    this.#machine = machine;
    this.#thread = kind === 'inline' ? machine.launchingThread : { freeAtNs: 0 };
    this.#onClose = onClose;
  }

  async copy(request: CopyRequest): Promise<CrossingRecord> {
    const { direction, device, host, hostOffsetBytes, stream } = request;
    this.#machine.assertRunning('a copy');
    if (this.#isClosed) throw new DeviceError('closed', `lane ${this.id} was closed`);
    const buffer = bufferOf(device);
    const hostBytes = hostPart(request);
    const isOurs = stream === null || stream instanceof ModelStream;
    if (!(host instanceof ModelHostBuffer) || !isOurs) {
      throw new DeviceError('bad-argument', 'host memory or stream are not of this device');
    }
    const record = this.#cross(request, host, stream);
    if (direction === 'h2d') {
      buffer.write(device.offsetBytes, hostBytes);
      this.#machine.pricer.memoryChanged();
      await this.#machine.wake(record.completedNs);
      return record;
    }
    const arriving = buffer.read(device.offsetBytes, device.bytes);
    await this.#machine.wake(record.completedNs);
    if (arriving !== undefined) host.bytes.set(arriving, hostOffsetBytes);
    return record;
  }

  /** Moves time for one crossing and counts it. */
  #cross(request: CopyRequest, host: ModelHostBuffer, stream: ModelStream | null): CrossingRecord {
    const { direction, purpose, tenant } = request;
    const { bytes } = request.device;
    const { counters, law } = this.#machine;
    const crossing = { direction, bytes, purpose, tenant, memory: host.memory };
    const issuedNs = Math.max(this.#machine.launchingNs(), this.#thread.freeAtNs);
    const { channels } = this.#machine.contexts;
    const { isFresh } = host;
    const schedule = channels.schedule(
      this.channel,
      law,
      crossing,
      issuedNs,
      stream?.readyNs ?? 0,
      isFresh,
    );
    const { startedNs, completedNs, issuerFreeNs } = schedule;
    host.isFresh = false;
    this.#thread.freeAtNs = issuerFreeNs;
    this.#lastCompletedNs = Math.max(this.#lastCompletedNs, completedNs);
    if (stream !== null) stream.readyNs = completedNs;
    counters.copies += 1;
    if (direction === 'h2d') counters.h2dBytes += bytes;
    else counters.d2hBytes += bytes;
    // Written out: objects made by spreading are slow, and every crossing makes one.
    return {
      direction,
      bytes,
      purpose,
      tenant,
      memory: host.memory,
      lane: this.id,
      issuedNs,
      startedNs,
      completedNs,
      issuerBlockedNs: issuerFreeNs - issuedNs,
    };
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#machine.wake(this.#lastCompletedNs);
    await this.#onClose();
  }
}

/** The host bytes of a copy. Throws DeviceError `bad-argument` when they lie outside. */
function hostPart({ device, host, hostOffsetBytes }: CopyRequest): Uint8Array {
  const end = hostOffsetBytes + device.bytes;
  if (host instanceof ModelHostBuffer && host.isFreed) {
    throw new DeviceError('bad-argument', `host memory "${host.label}" was freed already`);
  }
  if (!(hostOffsetBytes >= 0 && end <= host.bytes.length)) {
    throw new DeviceError(
      'bad-argument',
      `[${hostOffsetBytes}, ${end}) lies outside "${host.label}" of ${host.bytes.length} bytes`,
    );
  }
  return host.bytes.subarray(hostOffsetBytes, end);
}
