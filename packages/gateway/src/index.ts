export { gatewayAlerts, gatewayDashboard } from './metrics/dashboard.ts';
export { startGateway } from './start.ts';
