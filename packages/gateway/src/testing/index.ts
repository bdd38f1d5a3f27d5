export { startTestGateway } from './test-gateway.ts';
