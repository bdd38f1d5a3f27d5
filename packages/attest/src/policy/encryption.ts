import type { Policy } from './policy.ts';

/**
 * The policy for requests that are encrypted to the server's own key and pass through others, which
 * may end TLS: in the place of the connection's TLS key it asks for a proven key to encrypt to.
 */
export function requireEncryption(policy: Policy): Policy {
  const { 'server.tls': _tls, ...server } = policy.require.server ?? {};
  return {
    ...policy,
    name: `${policy.name}, encrypted`,
    require: { ...policy.require, server: { ...server, 'server.encryption': {} } },
  };
}
