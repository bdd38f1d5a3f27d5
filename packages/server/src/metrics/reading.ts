import type { RegistryMetric } from './histogram.ts';

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A metric that is read from somebody else's counters when it is scraped. */
export class Reading implements RegistryMetric {
  readonly name: string;
  readonly #type: 'gauge' | 'counter';
  readonly #help: string;
  readonly #read: () => readonly Sample[];

  constructor(
    name: string,
    type: 'gauge' | 'counter',
    help: string,
    read: () => readonly Sample[],
  ) {
    this.name = name;
    this.#type = type;
    this.#help = help;
    this.#read = read;
  }

  async get(): Promise<object> {
    const { name } = this;
    return { name, help: this.#help, type: this.#type, values: this.#read(), aggregator: 'sum' };
  }
}
