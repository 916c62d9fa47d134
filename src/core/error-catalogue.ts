/** Whose fault a failure is: decides who is told, who retries and what a bill says. */
export type Fault = 'user' | 'quota' | 'platform';

export interface ErrorEntry {
  /** HTTP status of an answer that carries this code. */
  readonly status: number;
  readonly fault: Fault;
  /** True when the same request may succeed later without a change. */
  readonly retryable: boolean;
  /** Exit code of the command line: 1 the build failed, 2 wrong use, 3 the host cannot do it. */
  readonly exit: 1 | 2 | 3;
  /** The next thing to do, as an imperative sentence. */
  readonly hint: string;
}

const user = (status: number, hint: string, exit: 1 | 2 | 3 = 1): ErrorEntry => ({
  status,
  fault: 'user',
  retryable: false,
  exit,
  hint,
});
const platform = (
  status: number,
  hint: string,
  exit: 1 | 2 | 3 = 1,
  retryable = true,
): ErrorEntry => ({ status, fault: 'platform', retryable, exit, hint });

/** The one catalogue of failures. Codes are a public contract: add, never rename. */
export const ERRORS = {
  'usage.invalid': user(400, 'See `builderd --help` for what the command takes.', 2),
  'config.invalid': user(400, 'Correct the named setting; `builderd --help` lists them.', 2),
  not_supported: user(422, 'See the table of limits in the README.', 2),

  'source.invalid': user(422, 'Check the source: what it holds is not a valid image.'),
  'source.not_found': user(
    404,
    'Check the name, the tag and the spelling; list tags at the registry.',
  ),
  'source.digest_mismatch': user(
    422,
    'The source served other bytes than it promised; push it again or use another mirror.',
  ),
  'source.size_mismatch': user(
    422,
    'The source served more or fewer bytes than it promised; push it again.',
  ),
  'source.too_large': user(
    413,
    'Make the source smaller or raise the limit that the message names.',
  ),
  'source.unsupported': user(
    415,
    'Convert the source to OCI or Docker schema 2 with gzip, zstd or plain layers.',
  ),
  'source.unreachable': platform(
    503,
    'Check the network and the registry, then run the same command again.',
  ),
  'source.denied_address': user(
    403,
    'Name the address in UNKEY_BUILDERD_EGRESS_ALLOW (host:port or CIDR) if it is meant.',
  ),
  'source.auth_failed': user(
    401,
    'Log in to the registry (docker config.json or a credential helper) and try again.',
  ),

  'archive.path_escape': user(422, 'Repack the archive without names that leave its root.'),
  'archive.bad_link': user(
    422,
    'Repack the archive: a link points at nothing that it can be linked to.',
  ),
  'archive.malformed': user(422, 'Repack the archive with a current tar; this one is damaged.'),
  'archive.limit': user(422, 'Make the archive smaller or raise the limit that the message names.'),
  'archive.bomb': user(
    422,
    'The archive expands far beyond its size; build it again without padding.',
  ),

  'image.bad_config': user(422, 'Build the image again: its configuration is not valid.'),
  'image.platform_mismatch': user(422, 'Choose one of the offered platforms with --platform.'),

  'artifact.too_small': user(422, 'Raise --size, or use --size min to fit the content exactly.'),
  'artifact.unrepresentable': user(422, 'Choose a format that can hold it, or change the image.'),

  'build.cancelled': user(
    409,
    'Run the same command again; what was fetched is kept where it is safe.',
  ),
  'build.timeout': {
    status: 408,
    fault: 'quota',
    retryable: false,
    exit: 1,
    hint: 'Raise the time limit or make the build smaller.',
  },
  'build.oom': {
    status: 422,
    fault: 'quota',
    retryable: false,
    exit: 1,
    hint: 'Make the image smaller, or ask the operator for more memory for each build.',
  },
  'build.lost': platform(
    503,
    'The host or the service stopped while it ran; create the build again if it was not retried.',
  ),

  'quota.exceeded': {
    status: 429,
    fault: 'quota',
    retryable: true,
    exit: 1,
    hint: 'Wait until running builds end, or ask the operator for a higher quota.',
  },
  'quota.denied': {
    status: 403,
    fault: 'quota',
    retryable: false,
    exit: 1,
    hint: 'Ask for less, or ask the operator for a higher quota.',
  },

  'api.invalid': user(
    400,
    'Correct the named field; the OpenAPI document describes the request.',
    2,
  ),
  'api.unauthenticated': user(401, 'Send a valid token as `Authorization: Bearer …`.', 2),
  'api.forbidden': user(403, 'Use a token that may do this, or ask the operator.', 2),
  'api.not_found': user(
    404,
    'Check the id and the tenant; `builderctl builds list` shows yours.',
    1,
  ),
  'api.no_route': user(
    404,
    'Check the method and the path; `/v1/openapi.json` lists all routes, and `/docs` is for people.',
    2,
  ),
  'api.conflict': user(409, 'Read the current state, then decide again.'),
  'api.key_reused': user(422, 'Send the first request again unchanged, or a new Idempotency-Key.'),
  'api.too_large': user(413, 'Send less; the message names the limit.', 2),
  'api.too_many': {
    status: 429,
    fault: 'quota',
    retryable: true,
    exit: 1,
    hint: 'Send fewer requests; Retry-After says when the next one is welcome.',
  },
  'service.unavailable': platform(503, 'Try again in a few seconds; /health/ready says when.'),
  'server.unreachable': platform(
    503,
    'Check the address and the network, and that builderd runs there.',
    3,
  ),
  'server.invalid': platform(
    502,
    'Check that the address is that of a builderd, and that no proxy answers in its place.',
    3,
    false,
  ),
  'database.unavailable': platform(
    503,
    'Check the database that DATABASE_TYPE and DATABASE_URL name; builderd --test-database tells more.',
    3,
  ),
  'database.schema': platform(
    500,
    'Run `builderd migrate`, or start the version of builderd that wrote this database.',
    3,
    false,
  ),
  'artifact.corrupt': platform(410, 'Build it again; the stored bytes are damaged.', 1, false),
  'artifact.missing': platform(410, 'Build it again; the stored bytes are gone.', 1, false),

  'isolation.unavailable': platform(
    503,
    'Run `builderd doctor` to see what the host lacks.',
    3,
    false,
  ),

  'runtime.unreachable': platform(
    503,
    'Start containerd, or name its socket with --containerd-address.',
    3,
  ),
  'runtime.permission': platform(
    503,
    'Run as root or as a user that may open the containerd socket.',
    3,
    false,
  ),
  'runtime.unsupported': platform(
    501,
    'Upgrade containerd; `builderd doctor` shows what it offers.',
    3,
    false,
  ),
  'runtime.not_found': platform(404, 'Pull the image again; containerd no longer has it.'),
  'runtime.conflict': platform(
    409,
    'Another client changed the same thing in containerd; run the command again.',
  ),
  'runtime.failed': platform(
    502,
    "Read containerd's log (`journalctl -u containerd`) for the cause.",
  ),

  'host.permission': platform(
    500,
    'Check owner and mode of the path that the message names.',
    3,
    false,
  ),
  'host.unsupported': platform(501, 'Run `builderd doctor` to see what the host lacks.', 3, false),
  'storage.full': platform(
    507,
    'Free space on the disk that the message names, then run the same command again.',
  ),
  'storage.failed': platform(
    500,
    'Check the disk (dmesg, smartctl); nothing was published.',
    1,
    false,
  ),

  internal: platform(
    500,
    'This is a bug in builderd; report it with the error id and the log.',
    1,
    false,
  ),
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof ERRORS;
