/** Of each tenant so many are remembered. */
const REMEMBERED = 64;
/** Salts make tenants, and are the clients' to choose: the one that was heard of last goes last. */
const MOST_TENANTS = 1024;

/**
 * How likely it is that a prompt is gone on from, by tenant: what one does says nothing of another,
 * or could be told by what is kept of the other's prompts. What came of one of each is taken for
 * known before anything is.
 */
export class ReturnChances {
  readonly #tenants = new Map<string, { readonly used: number; readonly unused: number }>();

  of(tenant: string): number {
    const { used, unused } = this.#countsOf(tenant);
    return used / (used + unused);
  }

  learn(tenant: string, wasUsed: boolean): void {
    const { used, unused } = this.#countsOf(tenant);
    const counts = wasUsed ? { used: used + 1, unused } : { used, unused: unused + 1 };
    const share = counts.used + counts.unused > REMEMBERED ? 0.5 : 1;
    this.#tenants.delete(tenant);
    this.#tenants.set(tenant, { used: share * counts.used, unused: share * counts.unused });
    if (this.#tenants.size <= MOST_TENANTS) return;
    for (const oldest of this.#tenants.keys()) {
      this.#tenants.delete(oldest);
      return;
    }
  }

  #countsOf(tenant: string) {
    return this.#tenants.get(tenant) ?? { used: 1, unused: 1 };
  }
}
