import type { Clock } from '@bridgekeeper/bridge';

/** What a start spends its time on, one after the other. */
const PHASES = {
  process: 'starting the process',
  model: "reading the model's description and tokenizer",
  thread: "starting the engine's thread",
  device: 'opening the device',
  weights: 'loading weights',
  kernels: 'preparing kernels',
  graphs: 'capturing graphs',
  routes: 'opening what steps cross on',
  evidence: 'collecting evidence',
  listening: 'opening the port',
} as const;
export type StartPhase = keyof typeof PHASES;

export interface PhaseTime {
  readonly phase: StartPhase;
  readonly seconds: number;
}

/** A start, phase by phase: what it does now, for people, and what each took. */
export class StartTimeline {
  readonly #clock: Pick<Clock, 'nowNs'>;
  readonly #tell: (line: string) => void;
  readonly #startedNs: number;
  readonly #phases: PhaseTime[] = [];
  #now: { readonly phase: StartPhase; readonly sinceNs: number };

  /** The process began at `startedNs`. */
  constructor(clock: Pick<Clock, 'nowNs'>, startedNs: number, tell: (line: string) => void) {
    this.#clock = clock;
    this.#tell = tell;
    this.#startedNs = startedNs;
    this.#now = { phase: 'process', sinceNs: startedNs };
  }

  /** Ends what was going on before. */
  begin(phase: StartPhase): void {
    const nowNs = this.#end();
    this.#now = { phase, sinceNs: nowNs };
    this.#tell(`${((nowNs - this.#startedNs) / 1e9).toFixed(1)} s: ${PHASES[phase]}`);
  }

  /** Nothing is left to do. Says what took how long. */
  finish(): readonly PhaseTime[] {
    const seconds = (this.#end() - this.#startedNs) / 1e9;
    const parts = this.#phases
      .filter((each) => each.seconds >= 0.005)
      .map((each) => `${each.phase} ${each.seconds.toFixed(2)}`);
    this.#tell(`ready after ${seconds.toFixed(2)} s: ${parts.join(', ')}`);
    return this.#phases;
  }

  #end(): number {
    const nowNs = this.#clock.nowNs();
    const { phase, sinceNs } = this.#now;
    this.#phases.push({ phase, seconds: (nowNs - sinceNs) / 1e9 });
    return nowNs;
  }
}
