export { startTestGateway, type TestGateway, type TestRoutes } from './test-gateway.ts';
