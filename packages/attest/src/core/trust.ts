/** SHA-256 (of the DER, lower-case hexadecimal) of the trusted roots, by what they are for. */
export interface TrustAnchors {
  readonly nvidiaDevice: ReadonlySet<string>;
  readonly nvidiaRim: ReadonlySet<string>;
  readonly intelSgx: ReadonlySet<string>;
  /** AMD root keys (ARK), by their certificate. */
  readonly amdArk: ReadonlySet<string>;
}
