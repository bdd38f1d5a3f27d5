/** The claims about an app that dstack runs, each with why it matters when it does not hold. */
export const APP_CLAIMS = {
  'app.identity': 'Keys and data of the app may be given to another one',
  'app.compose': 'What the app consists of may have been exchanged',
  'app.instance': 'It may be another instance of the app than the one expected',
  'app.keyProvider': 'Whoever gives the guest its keys can read what they protect',
  'app.osImage': 'The operating system that measured the rest may be another one',
  'app.initScripts': 'Scripts that run before the app can change what it does',
  'app.gpuPolicy': 'The guest may have accepted a GPU that it should not have',
  'app.gpuBoot': 'The guest may use a GPU that nobody asked for evidence',
  'app.machine': 'The host states the size of the machine, and may state anything',
} as const;

export type AppClaimKind = keyof typeof APP_CLAIMS;
export const APP_CLAIM_KINDS = Object.keys(APP_CLAIMS) as readonly AppClaimKind[];
