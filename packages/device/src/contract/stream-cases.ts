import { CommandWriter } from '../command.ts';
import type { Slice, Stream } from '../device.ts';
import { CONTROL, TARGET } from '../row-layout.ts';
import { type ContractCase, expectDeviceError, expectSame, expectThat } from './case.ts';
import { advanceArgs, type DeviceRows, STATE, uploadRows } from './row-state.ts';
import { benchCase, bytesOf, type Workbench } from './workbench.ts';

const MAX_RECORDS = 2;
const COMMAND_WORDS = 16;

/** A counter on the device: `advance` of no lines adds one to it, a command sets it. */
class StepCounter {
  readonly #bench: Workbench;
  readonly #state: DeviceRows;
  readonly #lineRows: Slice;
  readonly command: Slice;

  private constructor(bench: Workbench, state: DeviceRows, lineRows: Slice, command: Slice) {
    this.#bench = bench;
    this.#state = state;
    this.#lineRows = lineRows;
    this.command = command;
  }

  static async create(bench: Workbench): Promise<StepCounter> {
    const state = await uploadRows(bench, []);
    const lineRows = await bench.uploadWords([-1]);
    const command = await bench.uploadWords(new Int32Array(COMMAND_WORDS));
    return new StepCounter(bench, state, lineRows, command);
  }

  get control(): Slice {
    return this.#state.targets.control;
  }

  add(stream: Stream): void {
    stream.launch('advance', advanceArgs(this.#state, this.#lineRows, this.#lineRows, 0));
  }

  /** Sets the counter to what the command buffer says. */
  apply(stream: Stream): void {
    stream.launch('apply-command', {
      ...this.#state.targets,
      command: this.command,
      counts: this.#state.counts,
      vocab: STATE.vocab,
      maxRecords: MAX_RECORDS,
    });
  }

  /** The bytes of a command that sets the counter. */
  commandTo(value: number): Uint8Array {
    const words = new Int32Array(COMMAND_WORDS);
    const writer = new CommandWriter(words, MAX_RECORDS);
    writer.write(TARGET.CONTROL, CONTROL.STEP, [value]);
    writer.finish();
    return bytesOf(words);
  }

  async read(): Promise<number> {
    return (await this.#bench.downloadWords(this.control))[CONTROL.STEP]!;
  }
}

export const streamCases: readonly ContractCase[] = [
  benchCase('a stream does its work in order', 'no arithmetic', async (bench) => {
    const counter = await StepCounter.create(bench);
    await bench.rewrite(counter.command, counter.commandTo(100));
    for (let i = 0; i < 5; i++) counter.add(bench.stream);
    counter.apply(bench.stream);
    for (let i = 0; i < 7; i++) counter.add(bench.stream);
    await bench.stream.synchronize();
    expectSame('counter', [await counter.read()], [107]);
  }),
  benchCase('launches are counted', 'no arithmetic', async (bench) => {
    const counter = await StepCounter.create(bench);
    const graph = bench.device.capture(bench.stream, 'contract', () => counter.add(bench.stream));
    const before = bench.device.counters();
    counter.add(bench.stream);
    counter.add(bench.stream);
    bench.stream.launchGraph(graph);
    await bench.stream.synchronize();
    const after = bench.device.counters();
    expectSame(
      'launches and graph launches',
      [after.launches - before.launches, after.graphLaunches - before.graphLaunches],
      [2, 1],
    );
  }),
  benchCase(
    'a copy sees the work before it, and later work sees the copy',
    'no arithmetic',
    async (bench) => {
      const lane = await bench.device.openLane({ label: 'contract-order', context: 'own' });
      try {
        for (const way of [bench.device.inlineLane, lane]) {
          const counter = await StepCounter.create(bench);
          const source = bench.host(COMMAND_WORDS * 4);
          const seen = bench.host(64);
          source.bytes.set(counter.commandTo(40));
          for (let i = 0; i < 3; i++) counter.add(bench.stream);
          const drained = bench.copy(way, 'd2h', counter.control, seen);
          const sent = bench.copy(way, 'h2d', counter.command, source);
          counter.apply(bench.stream);
          counter.add(bench.stream);
          await Promise.all([drained, sent, bench.stream.synchronize()]);
          const before = new DataView(seen.bytes.buffer, seen.bytes.byteOffset).getInt32(0, true);
          expectSame(
            `counter around a copy of lane ${way.id}`,
            [before, await counter.read()],
            [3, 41],
          );
        }
      } finally {
        await lane.close();
      }
    },
  ),
  benchCase('an event orders work across streams', 'no arithmetic', async (bench) => {
    const counter = await StepCounter.create(bench);
    await bench.rewrite(counter.command, counter.commandTo(1000));
    const other = bench.device.createStream('contract-other');
    for (let round = 0; round < 10; round++) {
      const ready = bench.device.createEvent();
      const done = bench.device.createEvent();
      for (let i = 0; i < 5; i++) counter.add(bench.stream);
      bench.stream.record(ready);
      other.wait(ready);
      counter.apply(other);
      other.record(done);
      bench.stream.wait(done);
      counter.add(bench.stream);
    }
    await Promise.all([bench.stream.synchronize(), other.synchronize()]);
    expectSame('counter', [await counter.read()], [1001]);
  }),
  benchCase('an event carries a copy of another stream', 'no arithmetic', async (bench) => {
    const counter = await StepCounter.create(bench);
    const lane = await bench.device.openLane({ label: 'contract-event', context: 'own' });
    try {
      const copies = bench.device.createStream('contract-copies');
      const source = bench.host(COMMAND_WORDS * 4);
      source.bytes.set(counter.commandTo(500));
      const sent = bench.copy(lane, 'h2d', counter.command, source, 0, copies);
      const arrived = bench.device.createEvent();
      copies.record(arrived);
      bench.stream.wait(arrived);
      counter.apply(bench.stream);
      await Promise.all([sent, bench.stream.synchronize()]);
      expectSame('counter', [await counter.read()], [500]);
    } finally {
      await lane.close();
    }
  }),
  benchCase(
    'a graph replays what was captured and sees new data',
    'no arithmetic',
    async (bench) => {
      const counter = await StepCounter.create(bench);
      const graph = bench.device.capture(bench.stream, 'contract', () => {
        counter.apply(bench.stream);
        counter.add(bench.stream);
        counter.add(bench.stream);
      });
      expectThat(graph.length === 3, `a graph of 3 operations says it has ${graph.length}`);
      expectSame('counter after capture', [await counter.read()], [0]);
      for (const value of [10, 20, 30]) {
        await bench.rewrite(counter.command, counter.commandTo(value));
        bench.stream.launchGraph(graph);
        expectSame(`counter after the replay with ${value}`, [await counter.read()], [value + 2]);
      }
      bench.stream.launchGraph(graph);
      counter.add(bench.stream);
      bench.stream.launchGraph(graph);
      expectSame('counter after two replays', [await counter.read()], [32]);
    },
  ),
  benchCase(
    'copies cannot be captured, and a failed capture leaves no trace',
    'no arithmetic',
    async (bench) => {
      const counter = await StepCounter.create(bench);
      const host = bench.host(64);
      let copy: Promise<unknown> | undefined;
      bench.device.capture(bench.stream, 'contract', () => {
        counter.add(bench.stream);
        copy = expectDeviceError('a captured copy', 'bad-argument', () =>
          bench.copy(bench.device.inlineLane, 'd2h', counter.control, host),
        );
      });
      await copy;
      let thrown: unknown;
      try {
        bench.device.capture(bench.stream, 'contract', () => {
          throw new TypeError('of the recording function');
        });
      } catch (error) {
        thrown = error;
      }
      expectThat(thrown instanceof TypeError, `a throwing capture threw ${String(thrown)}`);
      counter.add(bench.stream);
      expectSame('counter', [await counter.read()], [1]);
    },
  ),
];
