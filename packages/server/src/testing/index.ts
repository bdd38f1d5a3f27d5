export { startBundledModel } from './bundled-model.ts';
export { makeCertificate } from './certificate.ts';
export { startSayingServer } from './saying-server.ts';
export { startTestServer, type TestServer } from './test-server.ts';
export { until } from './until.ts';
