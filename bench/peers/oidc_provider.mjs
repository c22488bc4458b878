// oidc-provider as a peer: client_credentials for a list of clients, JWTs signed with ES256 or opaque
// tokens, its own memory adapter or Redis.
//
// PORT, CLIENTS (JSON: [[id, secret], ...]), FORMAT (jwt | opaque), REDIS_SOCKET (unset: in memory).
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const { PORT, CLIENTS, FORMAT, REDIS_SOCKET } = process.env;
const RESOURCE = 'urn:bench:api';

async function redisAdapter() {
  const { default: Redis } = await import('ioredis');
  const redis = new Redis({ path: REDIS_SOCKET, keyPrefix: 'oidc:' });
  return class {
    constructor(name) { this.name = name; }
    key(id) { return `${this.name}:${id}`; }
    async upsert(id, payload, expiresIn) {
      await redis.set(this.key(id), JSON.stringify(payload), 'EX', expiresIn);
    }
    async find(id) {
      const found = await redis.get(this.key(id));
      return found ? JSON.parse(found) : undefined;
    }
    async consume() {}
    async destroy(id) { await redis.del(this.key(id)); }
    async revokeByGrantId() {}
    async findByUid() { return undefined; }
    async findByUserCode() { return undefined; }
  };
}

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const provider = new Provider(`http://127.0.0.1:${PORT}`, {
  ...(REDIS_SOCKET ? { adapter: await redisAdapter() } : {}),
  clients: JSON.parse(CLIENTS).map(([client_id, client_secret]) => ({
    client_id,
    client_secret,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    token_endpoint_auth_method: 'client_secret_basic',
    id_token_signed_response_alg: 'ES256',
  })),
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig', kid: 'k1' }] },
  scopes: ['read'],
  ttl: { ClientCredentials: 3600 },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: FORMAT === 'jwt',
      defaultResource: () => RESOURCE,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: 'read',
        audience: RESOURCE,
        accessTokenFormat: 'jwt',
        accessTokenTTL: 3600,
        jwt: { sign: { alg: 'ES256' } },
      }),
    },
  },
});
provider.listen(Number(PORT), '127.0.0.1', () => console.log('ready'));
