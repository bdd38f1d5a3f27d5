import { type CrossingRecord, Later } from '@bridgekeeper/bridge';
import type { CopyRequest, Lane } from '../device.ts';
import { DeviceError } from '../errors.ts';
import type { Machine, ModelThread } from './machine.ts';
import {
  bufferOf,
  copyBytes,
  type ModelBuffer,
  ModelHostBuffer,
  type Views,
  viewsOf,
  wholeWords,
} from './memory.ts';
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
  /** What holds bytes on their way to the host, when nothing is on its way. */
  readonly #spare: Views[] = [];
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

  copy(request: CopyRequest): Later<CrossingRecord> {
    try {
      return this.#copy(request);
    } catch (error) {
      return Later.failed(error);
    }
  }

  #copy(request: CopyRequest): Later<CrossingRecord> {
    const { direction, device, host, hostOffsetBytes, stream, purpose } = request;
    this.#machine.assertRunning('a copy');
    if (this.#isClosed) throw new DeviceError('closed', `lane ${this.id} was closed`);
    const buffer = bufferOf(device);
    const isOurs = stream === null || stream instanceof ModelStream;
    if (!(host instanceof ModelHostBuffer) || !isOurs) {
      throw new DeviceError('bad-argument', 'host memory or stream are not of this device');
    }
    checkHostPart(request, host);
    const record = this.#cross(request, host, stream);
    const { completedNs } = record;
    if (direction === 'h2d') {
      const write = () => {
        if (!(host.hasContents || buffer.hasContents)) return;
        const isNeeded = purpose === 'command' || purpose === 'grammar';
        buffer.write(device.offsetBytes, host.views, hostOffsetBytes, device.bytes, isNeeded);
        this.#machine.pricer.memoryChanged();
      };
      // Work on a stream comes behind it. Of no stream, what reads too early finds what was there.
      if (stream === null) {
        return this.#machine.wakeWith(completedNs, record, () => buffer.isFreed || write());
      }
      write();
      return this.#machine.wakeWith(completedNs, record);
    }
    if (!buffer.hasContents) return this.#machine.wakeWith(completedNs, record);
    const arriving = this.#taken(buffer, request);
    return this.#machine.wakeWith(completedNs, record, () => {
      copyBytes(arriving, 0, host.views, hostOffsetBytes, device.bytes);
      this.#spare.push(arriving);
    });
  }

  /** A copy of what is there now. */
  #taken(buffer: ModelBuffer, { device: { offsetBytes, bytes } }: CopyRequest): Views {
    let room = this.#spare.pop();
    if (room === undefined || room.bytes.length < bytes) {
      room = viewsOf(new ArrayBuffer(Math.max(wholeWords(bytes), SPARE_BYTES)));
    }
    copyBytes(buffer.views, offsetBytes, room, 0, bytes);
    return room;
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

/** What steps' results take at least. */
const SPARE_BYTES = 4096;

/** Throws DeviceError `bad-argument` where the host bytes of a copy lie outside. */
function checkHostPart({ device, hostOffsetBytes }: CopyRequest, host: ModelHostBuffer): void {
  const end = hostOffsetBytes + device.bytes;
  if (host.isFreed) {
    throw new DeviceError('bad-argument', `host memory "${host.label}" was freed already`);
  }
  if (!(hostOffsetBytes >= 0 && end <= host.sizeBytes)) {
    throw new DeviceError(
      'bad-argument',
      `[${hostOffsetBytes}, ${end}) lies outside "${host.label}" of ${host.sizeBytes} bytes`,
    );
  }
}
