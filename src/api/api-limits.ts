/** Every bound of the HTTP side; milliseconds and bytes. The table is explained in docs. */
export interface ApiLimits {
  /** From the first byte of a connection or request to the end of its headers. */
  readonly headersMs: number;
  /** From there to the end of the body. */
  readonly requestMs: number;
  /** Longest time that one service call of a request may take. */
  readonly callMs: number;
  /** A reader that takes no byte of a waiting answer for this long is cut off. */
  readonly stalledMs: number;
  /** A connection without a request. */
  readonly idleMs: number;
  /** Between two comments on a silent event stream: below the time-outs of load balancers. */
  readonly heartbeatMs: number;
  readonly bodyBytes: number;
  readonly headerBytes: number;
  readonly headerFields: number;
  readonly urlBytes: number;
  readonly jsonDepth: number;
  readonly jsonKeys: number;
  readonly sockets: number;
  readonly socketsPerAddress: number;
  readonly streamsPerSession: number;
  /** HTTP/2 streams that a client may reset at once, and then each second. */
  readonly resetBurst: number;
  readonly resetsPerSecond: number;
  /** Streams (logs and events) that one process serves. */
  readonly followers: number;
  readonly followersPerTenant: number;
  /** Artifacts that one process sends at once. From an S3 store each holds up to 4 MiB in memory. */
  readonly downloads: number;
  readonly downloadsPerTenant: number;
  /** Requests that no tenant is charged for, by address: without a right credential, or refused. */
  readonly addressRequestsPerMinute: number;
  readonly addressBurst: number;
  /** Refused credentials, by address. */
  readonly failuresPerMinute: number;
  readonly failureBurst: number;
  /** Between two looks whether the caller of an open stream may still have it. */
  readonly reverifyMs: number;
  /** How long a verified token is believed: the time that a revocation takes at most. */
  readonly tokenCacheMs: number;
  /** How long a tenant's name, state and request quota are believed. */
  readonly tenantCacheMs: number;
}

export const DEFAULT_API_LIMITS: ApiLimits = {
  headersMs: 10_000,
  requestMs: 30_000,
  callMs: 30_000,
  stalledMs: 30_000,
  idleMs: 120_000,
  heartbeatMs: 15_000,
  bodyBytes: 1024 ** 2,
  headerBytes: 16 * 1024,
  headerFields: 100,
  urlBytes: 8 * 1024,
  jsonDepth: 32,
  jsonKeys: 10_000,
  sockets: 4096,
  socketsPerAddress: 2048,
  streamsPerSession: 100,
  resetBurst: 200,
  resetsPerSecond: 33,
  followers: 1000,
  followersPerTenant: 100,
  downloads: 64,
  downloadsPerTenant: 8,
  addressRequestsPerMinute: 600,
  addressBurst: 100,
  failuresPerMinute: 30,
  failureBurst: 20,
  reverifyMs: 15_000,
  tokenCacheMs: 3000,
  tenantCacheMs: 2000,
};
