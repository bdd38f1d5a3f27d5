/**
 * What can be claimed about a tenant's part of an NVSwitch fabric, by the log of its host. The log
 * is read in another package; policies name these here.
 */
export const FABRIC_CLAIM_KINDS = [
  'fabric.log',
  'fabric.key',
  'fabric.seen',
  'fabric.exclusive',
  'fabric.activated',
  'fabric.reset',
  'fabric.devices',
  'fabric.count',
  'fabric.driver',
  'fabric.links',
  'fabric.remapTable',
  'fabric.encryption',
] as const;
export type FabricClaimKind = (typeof FABRIC_CLAIM_KINDS)[number];
