export { makeCertificate } from './certificate.ts';
export { startTestServer, type TestServer } from './test-server.ts';
export { until } from './until.ts';
