export { IDLE_MS as POSTGRES_IDLE_MS } from '../store/postgres.ts';
export type { Sql, SqlResult, SqlValue } from '../store/sql.ts';
export { openSqlite } from '../store/sqlite.ts';
export { KubernetesVmm } from '../vmm/kubernetes.ts';
export { KubernetesApi } from '../vmm/kubernetes-api.ts';
export { pretendedFacts } from '../vmm/pretended.ts';
export { startKubernetesApi } from './kubernetes-api.ts';
