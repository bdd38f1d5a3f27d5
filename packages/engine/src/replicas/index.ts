export { ReplicaChoice, type ReplicaLoad } from './replica-choice.ts';
export { Replicas } from './replicas.ts';
