import type { Agent } from './agent.ts';

/** What others tell an agent that runs; done between two of its rounds, in order. */
export class AgentCommands {
  #waiting: ((agent: Agent) => Promise<void>)[] = [];
  #wake = () => {};
  #woken = Promise.resolve();

  constructor() {
    this.#rest();
  }

  /** Resolves or rejects as `act` does. */
  run<T>(act: (agent: Agent) => Promise<T>): Promise<T> {
    const result = new Promise<T>((resolve, reject) => {
      // What throws before its first wait is told to its caller, too.
      const told = async (agent: Agent) => act(agent);
      this.#waiting.push((agent) => told(agent).then(resolve, reject));
    });
    this.#wake();
    return result;
  }

  /** Resolves when there is something to do. */
  arrival(): Promise<void> {
    return this.#woken;
  }

  /** Does all that has come. Never rejects: each command's caller is told. */
  async doAll(agent: Agent): Promise<void> {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#rest();
    for (const act of waiting) await act(agent);
  }

  #rest(): void {
    this.#woken = new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
