import {
  ERRORS,
  type ErrorCode,
  type ErrorEntry,
  type Fault,
} from '../../../core/error-catalogue.ts';
import { BuilderdError, type ErrorDetails } from '../../../core/errors.ts';
import { parseJson } from './bounded-json.ts';
import { flag, map, number, object, optional, text } from './fields.ts';

/** What the server said went wrong. Its code may be newer than this program. */
export class RemoteFault extends BuilderdError {
  readonly remoteCode: string;
  readonly status: number;
  readonly requestId: string | undefined;
  /** From Retry-After. */
  readonly retryAfterMs: number | undefined;
  readonly #entry: ErrorEntry;

  constructor(
    message: string,
    facts: {
      readonly code: string;
      readonly status: number;
      readonly hint?: string | undefined;
      readonly fault?: Fault | undefined;
      readonly requestId?: string | undefined;
      readonly details?: ErrorDetails | undefined;
      readonly retryAfterMs?: number | undefined;
    },
  ) {
    const known = knownCode(facts.code, facts.status);
    super(known, message, facts.details === undefined ? {} : { details: facts.details });
    this.remoteCode = facts.code;
    this.status = facts.status;
    this.requestId = facts.requestId;
    this.retryAfterMs = facts.retryAfterMs;
    const entry = ERRORS[known];
    this.#entry = {
      ...entry,
      status: facts.status,
      fault: facts.fault ?? entry.fault,
      hint: OUR_HINTS.get(facts.code) ?? facts.hint ?? entry.hint,
      exit: facts.status >= 500 ? 3 : entry.exit,
    };
  }

  override get entry(): ErrorEntry {
    return this.#entry;
  }
}

/** Hints of the catalogue speak to writers of programs; these name the next command. */
const OUR_HINTS = new Map<string, string>([
  ['api.unauthenticated', 'Log in with a valid token: `builderctl login URL --token-file FILE`.'],
  ['api.invalid', 'Correct what the message names; `--tenant NAME` chooses the tenant.'],
  ['api.too_many', 'Wait a few seconds, then run the same command again.'],
  [
    'api.conflict',
    'Look at the current state (`builderctl builds get`, `tenants get`), then decide again.',
  ],
  ['service.unavailable', 'Try again in a few seconds; `builderctl health` says when.'],
]);

const parseProblem = object({
  detail: text,
  code: text,
  hint: optional(text),
  fault: optional(text),
  requestId: optional(text),
  details: optional(
    map((value, at): string | number | boolean => {
      if (typeof value === 'boolean') return flag(value, at);
      return typeof value === 'number' ? number(value, at) : text(value, at);
    }),
  ),
});

const FAULTS: readonly Fault[] = ['user', 'quota', 'platform'];

/** An answer that is no success, as a sentence with its next step. */
export function faultOfAnswer(
  answer: {
    readonly status: number;
    readonly mediaType: string;
    readonly body: string;
    readonly retryAfter?: string | undefined;
  },
  doing: string,
): BuilderdError {
  const { status } = answer;
  const problem =
    answer.mediaType === 'application/problem+json' ? readProblem(answer.body) : undefined;
  if (problem !== undefined) {
    const { detail, code, hint, requestId, details } = problem;
    const message = detail.startsWith('Cannot ') ? detail : `Cannot ${doing}: ${detail}`;
    return new RemoteFault(message.slice(0, 2000), {
      code: code.slice(0, 100),
      status,
      hint: hint?.slice(0, 500),
      fault: FAULTS.find((each) => each === problem.fault),
      requestId: requestId?.slice(0, 100),
      details,
      retryAfterMs: parseRetryAfter(answer.retryAfter),
    });
  }
  if (status >= 300 && status < 400) {
    return new BuilderdError(
      'server.invalid',
      `Cannot ${doing}: the server sends us elsewhere (${status}), and a token is not carried there`,
    );
  }
  const code =
    status === 502 || status === 503 || status === 504 ? 'server.unreachable' : 'server.invalid';
  return new BuilderdError(
    code,
    `Cannot ${doing}: the server answered ${status} without saying why`,
    { details: { status } },
  );
}

function readProblem(body: string): ReturnType<typeof parseProblem> | undefined {
  try {
    return parseProblem(parseJson(body), 'the problem');
  } catch (reason) {
    if (reason instanceof BuilderdError) return undefined;
    throw reason;
  }
}

function knownCode(code: string, status: number): ErrorCode {
  if (isKnown(code)) return code;
  return status >= 500 ? 'server.invalid' : 'api.invalid';
}

const isKnown = (code: string): code is ErrorCode => Object.hasOwn(ERRORS, code);

/** Whole seconds; the other form, a date, is not sent by builderd. */
function parseRetryAfter(value: string | undefined): number | undefined {
  return value !== undefined && /^\d{1,6}$/.test(value) ? Number(value) * 1000 : undefined;
}
