import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { BuilderdError, errnoOf } from '../../core/errors.ts';
import {
  type Credential,
  type DockerConfig,
  EMPTY_DOCKER_CONFIG,
  parseDockerConfig,
} from './docker-config.ts';
import { isJsonObject, type JsonValue, parseStrictJson } from '../../core/strict-json.ts';

/** Answers for exactly one `host[:port]` (Docker Hub is `docker.io`); never for a look-alike. */
export interface CredentialSource {
  credentialFor(
    host: string,
    call: { readonly signal: AbortSignal },
  ): Promise<Credential | undefined>;
}

export const NO_CREDENTIALS: CredentialSource = { credentialFor: async () => undefined };

export interface DockerCredentialOptions {
  /** config.json; an absent file means no credentials. */
  readonly configPath: string;
  /** The whole environment of credential helpers: PATH, HOME and what the operator adds. */
  readonly helperEnv: Readonly<Record<string, string>>;
}

const HELPER_TIMEOUT_MS = 30_000;
const HELPER_MAX_OUTPUT = 64 * 1024;
const MAX_CONFIG_BYTES = 1024 * 1024;

/** Credentials as `docker login` keeps them, helpers included. The file is read at each question. */
export function dockerCredentials(options: DockerCredentialOptions): CredentialSource {
  return {
    async credentialFor(host, { signal }) {
      const config = await readConfig(options.configPath, signal);
      const helper = config.credHelpers.get(host) ?? config.credsStore;
      const helped =
        helper === undefined ? undefined : await askHelper(helper, host, options.helperEnv, signal);
      return helped ?? config.auths.get(host);
    },
  };
}

async function readConfig(path: string, signal: AbortSignal): Promise<DockerConfig> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path, { signal });
  } catch (reason) {
    if (errnoOf(reason) === 'ENOENT') return EMPTY_DOCKER_CONFIG;
    throw new BuilderdError(
      'config.invalid',
      `Cannot read the docker config.json: ${errnoOf(reason) ?? 'unknown fault'}`,
      { cause: reason },
    );
  }
  if (bytes.length > MAX_CONFIG_BYTES) {
    throw new BuilderdError(
      'config.invalid',
      `Cannot read the docker config.json: it is larger than ${MAX_CONFIG_BYTES} bytes`,
    );
  }
  return parseDockerConfig(bytes);
}

/** The protocol of docker-credential-helpers: `get`, the server on stdin, JSON on stdout. */
async function askHelper(
  helper: string,
  host: string,
  env: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<Credential | undefined> {
  const program = `docker-credential-${helper}`;
  const server = host === 'docker.io' ? 'https://index.docker.io/v1/' : host;
  const { failed, stdout } = await runHelper(program, server, env, signal);
  if (failed !== undefined) {
    // The helpers say "credentials not found in native keychain" on stdout; that is an answer.
    if (stdout.toString('latin1').startsWith('credentials not found')) return undefined;
    // Neither output is shown: it may hold the secret.
    throw new BuilderdError('source.auth_failed', `Cannot ask ${program} for ${host}: ${failed}`);
  }
  return parseHelperAnswer(stdout, program);
}

function parseHelperAnswer(stdout: Buffer, program: string): Credential | undefined {
  const answer = parseStrictJson(stdout, `the answer of ${program}`);
  const [user, secret] = isJsonObject(answer)
    ? [answer.get('Username'), answer.get('Secret')]
    : ([] as JsonValue[]);
  if (typeof user !== 'string' || typeof secret !== 'string') {
    throw new BuilderdError(
      'source.auth_failed',
      `Cannot use the answer of ${program}: it has no Username and Secret`,
    );
  }
  if (secret === '') return undefined;
  if (user === '<token>') return { kind: 'identity-token', token: secret };
  return { kind: 'password', user, password: secret };
}

function runHelper(
  program: string,
  input: string,
  env: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<{ failed: string | undefined; stdout: Buffer }> {
  return new Promise((resolve) => {
    const child = execFile(
      program,
      ['get'],
      {
        env,
        shell: false,
        encoding: 'buffer',
        timeout: HELPER_TIMEOUT_MS,
        killSignal: 'SIGKILL',
        maxBuffer: HELPER_MAX_OUTPUT,
        signal,
      },
      (fault, stdout) => {
        resolve({ failed: fault === null ? undefined : helperFault(fault.code), stdout });
      },
    );
    // A helper that does not read its input closes the pipe: its exit says the rest.
    child.stdin?.on('error', () => child.stdin?.destroy());
    child.stdin?.end(`${input}\n`);
  });
}

function helperFault(code: string | number | null | undefined): string {
  if (code === 'ENOENT') return 'the program is not installed';
  return typeof code === 'number'
    ? `it ended with status ${code}`
    : `it was stopped (${code ?? 'signal'})`;
}
