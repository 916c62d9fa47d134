import type { BuildSpec } from '../../../builds/build-spec.ts';
import { BuilderdError } from '../../../core/errors.ts';
import { parsePlatform, parseSizePolicy } from '../../build-options.ts';
import { parseRuntime } from '../../runtime-options.ts';
import { parsePairs, parseSeconds } from '../command-kit.ts';
import type { SpecOptions } from './build-options.ts';

export interface SourceLogin {
  readonly username?: string;
  readonly password?: string;
  readonly token?: string;
}

type Target = NonNullable<BuildSpec['target']>;

export function toBuildSpec(source: string, raw: SpecOptions, login: SourceLogin): BuildSpec {
  const target = toTarget(raw);
  return {
    source: toSource(source, login),
    ...(Object.keys(target).length === 0 ? {} : { target }),
    ...(raw.platform === undefined ? {} : { platform: platformText(raw.platform) }),
    ...(raw.pull === undefined ? {} : { pullPolicy: raw.pull }),
    ...(raw.name === undefined ? {} : { name: raw.name }),
    ...(raw.label === undefined ? {} : { labels: parsePairs(raw.label, '--label') }),
    ...(raw.priority === undefined ? {} : { priority: raw.priority }),
    ...(raw.timeout === undefined
      ? {}
      : { timeoutSeconds: parseSeconds(raw.timeout, '--timeout') }),
  };
}

export const FORMAT_NAMES = ['ext4', 'tar'] as const;

export function parseFormats(text: string): (typeof FORMAT_NAMES)[number][] {
  const formats = text.split(',').map((name) => {
    const known = FORMAT_NAMES.find((each) => each === name.trim());
    if (known === undefined)
      throw bad(`--format ${shown(text)}`, `want ${FORMAT_NAMES.join(', ')}`);
    return known;
  });
  if (new Set(formats).size < formats.length)
    throw bad(`--format ${shown(text)}`, 'want each format once');
  return formats;
}

function toTarget(raw: SpecOptions): Target {
  const size = raw.size === undefined ? undefined : parseSizePolicy(raw.size);
  const runtime = parseRuntime(raw);
  return {
    ...(raw.format === undefined ? {} : { formats: parseFormats(raw.format) }),
    ...(size === undefined
      ? {}
      : size.kind === 'min'
        ? { extraBytes: size.extraBytes }
        : { sizeBytes: size.bytes }),
    ...(raw.volumeLabel === undefined ? {} : { label: raw.volumeLabel }),
    ...(raw.journal === undefined ? {} : { journal: raw.journal }),
    ...(raw.lostFound ? {} : { lostFound: false }),
    ...(raw.guestFiles === undefined ? {} : { guestFiles: raw.guestFiles }),
    ...(raw.devices === undefined ? {} : { devices: raw.devices }),
    ...(raw.exclude === undefined ? {} : { exclude: [...raw.exclude] }),
    ...(raw.preserve === undefined ? {} : { preserve: [...raw.preserve] }),
    ...(raw.removeDocs === undefined ? {} : { removeDocs: raw.removeDocs }),
    ...(raw.removeCache === undefined ? {} : { removeCache: raw.removeCache }),
    ...(runtime === undefined ? {} : { runtime }),
    ...(raw.sourceDateEpoch === undefined ? {} : { sourceDateEpoch: raw.sourceDateEpoch }),
  };
}

function platformText(text: string): string {
  const { os, architecture, variant } = parsePlatform(text);
  return [os, architecture, ...(variant === undefined ? [] : [variant])].join('/');
}

/** What a server can fetch itself; files of this machine are not among it. */
export function toSource(text: string, login: SourceLogin): BuildSpec['source'] {
  const auth = Object.keys(login).length === 0 ? {} : { auth: login };
  const local = /^(?:oci|oci-archive|docker-archive|dir|archive):/.exec(text)?.[0];
  if (local !== undefined) {
    throw new BuilderdError(
      'not_supported',
      `Cannot send ${local} sources to a server: it reads no files of this machine; builderd build does`,
    );
  }
  if (/^git\+/i.test(text)) {
    const [url = '', fragment = ''] = split(text.slice('git+'.length), '#');
    const [ref = '', context = ''] = split(fragment, ':');
    return {
      git: {
        url: withoutLogin(url),
        ...(ref === '' ? {} : { ref }),
        ...(context === '' ? {} : { context }),
        ...auth,
      },
    };
  }
  if (/^https?:\/\//i.test(text)) {
    if ('auth' in auth) throw bad('a login', 'an archive is fetched without one');
    const [url = '', context = ''] = split(text, '#');
    return { archive: { url: withoutLogin(url), ...(context === '' ? {} : { context }) } };
  }
  const reference = text.startsWith('docker://') ? text.slice('docker://'.length) : text;
  if (/^[./~]/.test(reference)) {
    throw new BuilderdError(
      'not_supported',
      `Cannot send ${shown(text)} to a server: it looks like a path, and a server reads no files of this machine; builderd build does`,
    );
  }
  if (reference === '' || reference.includes('://'))
    throw bad('the source', 'want an image, git+https://… or https://…');
  return { image: { reference, ...auth } };
}

/** Before and after the first `mark`. */
function split(text: string, mark: string): readonly string[] {
  const at = text.indexOf(mark);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

/** A password in a URL is in the shell's history already; it shall not be in a database too. */
function withoutLogin(raw: string): string {
  const url = URL.parse(raw);
  if (
    url !== null &&
    (url.username !== '' || url.password !== '') &&
    url.protocol.startsWith('http')
  ) {
    throw bad('the source', 'its URL holds a login; see --source-password-file');
  }
  return raw;
}

const shown = (text: string): string => JSON.stringify(text.slice(0, 60));

function bad(what: string, fact: string): BuilderdError {
  return new BuilderdError('usage.invalid', `Cannot use ${what}: ${fact}`);
}
