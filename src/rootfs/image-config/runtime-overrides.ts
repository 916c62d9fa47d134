import { BuilderdError, isBuilderdError } from '../../core/errors.ts';
import { isPlainText } from '../../core/plain-text.ts';
import type { ImageConfig } from './image-config.ts';
import { parsePorts, parseWorkingDir } from './run-fields.ts';
import type { JsonValue } from './stable-json.ts';
import { stableJson } from './stable-json.ts';

/** What a build says of its guest's program in place of the image; absent: what the image says. */
export interface RuntimeOverrides {
  readonly entrypoint?: readonly string[];
  readonly command?: readonly string[];
  readonly workingDir?: string;
  /** Joins the image's variables; wins where both name one. */
  readonly env?: Readonly<Record<string, string>>;
  /** `80`, `80/tcp`, `8000-8010/udp`; in place of all of the image's. */
  readonly exposedPorts?: readonly string[];
}

export const MAX_RUNTIME_ITEMS = 256;
export const MAX_RUNTIME_CHARS = 4096;
/** Images have names with dots and dashes; a shell cannot say them, execve can. */
export const ENV_NAME = '^(?!__proto__$)[A-Za-z_][A-Za-z0-9_.-]{0,127}$';
const MAX_RUNTIME_BYTES = 64 * 1024;

/** What the guest runs. As with container engines, a new entrypoint does not get the old arguments. */
export function withRuntime(config: ImageConfig, runtime: RuntimeOverrides = {}): ImageConfig {
  const { entrypoint, command, workingDir, env = {}, exposedPorts } = runtime;
  return {
    ...config,
    entrypoint: entrypoint ?? config.entrypoint,
    cmd: command ?? (entrypoint === undefined ? config.cmd : []),
    workingDir: workingDir === undefined ? config.workingDir : parseWorkingDir(workingDir),
    env: new Map([...config.env, ...Object.entries(env)]),
    exposedPorts: exposedPorts === undefined ? config.exposedPorts : portsOf(exposedPorts),
  };
}

/** The same fields in fixed order: equal overrides give equal bytes. */
export function describeRuntime(runtime: RuntimeOverrides): { readonly [key: string]: JsonValue } {
  const { entrypoint, command, workingDir, env, exposedPorts } = runtime;
  return {
    ...(entrypoint === undefined ? {} : { entrypoint }),
    ...(command === undefined ? {} : { command }),
    ...(workingDir === undefined ? {} : { workingDir }),
    ...(env === undefined ? {} : { env: new Map(Object.entries(env)) }),
    ...(exposedPorts === undefined ? {} : { exposedPorts }),
  };
}

/** Throws `usage.invalid` for what no guest could use. */
export function checkRuntime(runtime: RuntimeOverrides): void {
  const { entrypoint, command, workingDir, env = {}, exposedPorts } = runtime;
  checkWords('entrypoint', entrypoint);
  checkWords('command', command);
  if (entrypoint?.[0] === '') throw bad('entrypoint', 'its first word, the program, is empty');
  checkWords('env', Object.values(env));
  const name = Object.keys(env).find((key) => !new RegExp(ENV_NAME).test(key));
  if (name !== undefined) {
    throw bad('env', 'a name is not a letter or _, then letters, digits and _ . - (128 at most)');
  }
  if (workingDir !== undefined) {
    checkWords('workingDir', [workingDir]);
    if (!workingDir.startsWith('/')) throw bad('workingDir', 'it is not an absolute path');
    inWordsOfRequests('workingDir', () => parseWorkingDir(workingDir));
  }
  if (exposedPorts !== undefined) {
    checkWords('exposedPorts', exposedPorts);
    portsOf(exposedPorts);
  }
  // All of it is kept in a row, and in two documents of the artifact.
  if (Buffer.byteLength(stableJson(describeRuntime(runtime))) > MAX_RUNTIME_BYTES) {
    throw bad('all fields together', `they are over ${MAX_RUNTIME_BYTES} bytes`);
  }
}

function checkWords(field: string, words: readonly string[] = []): void {
  if (words.length > MAX_RUNTIME_ITEMS) throw bad(field, `it has over ${MAX_RUNTIME_ITEMS} items`);
  for (const word of words) {
    if (word.length > MAX_RUNTIME_CHARS) {
      throw bad(field, `a text is longer than ${MAX_RUNTIME_CHARS} characters`);
    }
    if (!isPlainText(word)) throw bad(field, 'it holds a control character or half a character');
  }
}

function portsOf(texts: readonly string[]): ImageConfig['exposedPorts'] {
  return parsePorts([...new Set(texts)], () => {
    throw bad('exposedPorts', 'want ports such as 80, 80/tcp, 8000-8010/udp');
  });
}

/** An image's fault is this request's here. */
function inWordsOfRequests(field: string, parse: () => unknown): void {
  try {
    parse();
  } catch (reason) {
    if (!isBuilderdError(reason, 'image.bad_config')) throw reason;
    throw bad(field, 'want a path of at most 4095 bytes, not below /proc, /sys or /dev');
  }
}

function bad(field: string, fact: string): BuilderdError {
  return new BuilderdError('usage.invalid', `Cannot use ${field} of the runtime: ${fact}`);
}
