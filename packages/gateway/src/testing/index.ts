export { startGatewayWith, startTestGateway } from './test-gateway.ts';
