/**
 * The claims about a CPU, each with why it matters when it does not hold. Intel TDX and AMD SEV-SNP
 * share them as far as they have the same meaning.
 */
export const CPU_CLAIMS = {
  'cpu.tee': 'Without a TEE the host reads and changes everything',
  'cpu.chain': 'Without a chain to the vendor, any machine can have made this evidence',
  'cpu.expiry': 'Vendors vouch for keys for a time alone, and this is outside of it',
  'cpu.revocation': 'A key that its vendor gave up may be in the hands of anyone',
  'cpu.collateral': 'Without statements of the vendor, a platform with known holes looks like any',
  'cpu.collateralExpiry': 'An old statement of the vendor leaves out the holes found since',
  'cpu.qe': 'Only the quoting enclave of the vendor is known to sign what the CPU reports',
  'cpu.qeIdentity': 'An older form of the statement leaves out what the vendor says since',
  'cpu.quote': 'What the evidence says about the guest may have been made up',
  'cpu.identity': 'Evidence of one chip could be shown for another',
  'cpu.tcb': 'The firmware below the guest may have holes that let a host read its memory',
  'cpu.teeTcbSvn': 'The guest keeps the module that it was started under, with its holes',
  'cpu.committedTcb': 'The host can go back to firmware this old, with its holes',
  'cpu.launchTcb': 'The guest was started under firmware with holes that may have been used',
  'cpu.platform': 'The platform may run with features that weaken its isolation',
  'cpu.advisories': 'Known holes may need changes in configuration or software',
  'cpu.debug': 'A guest in debug mode can be read and changed by its host',
  'cpu.attributes': 'The guest may run with features that weaken its isolation',
  'cpu.xfam': 'The guest may use parts of the CPU whose state is not kept from its host',
  'cpu.guestPolicy': 'The host may do to the guest what its policy allows',
  'cpu.migration': 'A migration agent can move the guest, with its secrets, to another machine',
  'cpu.vmpl': 'Software at a lesser privilege level asked for this report',
  'cpu.launch': 'Nothing says which firmware the guest was started with',
  'cpu.measurements': 'Nothing says which software the guest was started with',
  'cpu.system': 'Another operating system measures what it likes of what runs on it',
  'cpu.reportData': 'The evidence may be old or of another service',
  'cpu.eventLog': 'The events may not be those that were measured',
  'cpu.vtpmKey': 'Anyone can have made the vTPM up, with its quote',
  'cpu.vtpmQuote': 'What the vTPM measured may have been changed',
  'cpu.vtpmNonce': 'The quote can be an old one, of a guest that has changed since',
  'cpu.pcrs': 'Nothing says which software the guest was started with',
} as const;

export type CpuClaimKind = keyof typeof CPU_CLAIMS;
export const CPU_CLAIM_KINDS = Object.keys(CPU_CLAIMS) as readonly CpuClaimKind[];
