export { openConnection } from '../connect/run.ts';
export { AttestedConnections } from './attested-connections.ts';
export { startGateway } from './gateway.ts';
export { type Served, STORYTELLER, serve, stop } from './served-product.ts';
