import type { Platform } from '../core/oci.ts';
import { BuilderdError } from '../core/errors.ts';
import { parseSize } from '../core/units.ts';
import type { FilterSpec } from '../rootfs/filter/filter-spec.ts';
import { TreeFilter } from '../rootfs/filter/tree-filter.ts';
import { parseSource, type ImageSource } from '../sources/parse-source.ts';
import { FORMATS, type BuildRequest, type Format, type SizePolicy } from '../builds/request.ts';
import type { Config } from './config.ts';
import { parseRuntime, type RawRuntime } from './runtime-options.ts';
import { durationMs } from './setting-kinds.ts';

/** What commander hands over; every value is still text. */
export interface RawBuildOptions extends RawRuntime {
  readonly format: string;
  readonly output?: string;
  readonly platform?: string;
  readonly pull?: string;
  readonly size: string;
  readonly label?: string;
  readonly uuid?: string;
  readonly journal?: true;
  readonly lostFound: boolean;
  readonly guestFiles?: true;
  readonly guestInit?: string;
  readonly devices: string;
  readonly exclude?: readonly string[];
  readonly preserve?: readonly string[];
  readonly removeDocs?: true;
  readonly removeCache?: true;
  readonly sourceDateEpoch?: string;
  readonly timeout?: string;
  readonly containerdAddress?: string;
  readonly namespace?: string;
  readonly progress: string;
  readonly json?: true;
  readonly quiet?: true;
  readonly config?: string;
  readonly tenant?: string;
}

/** The last second that an ext4 inode can hold. */
const MAX_EPOCH = 2 ** 34 - 2 ** 31 - 1;
const PULL_POLICIES = ['always', 'missing', 'never'] as const;
const DEVICE_POLICIES = ['keep', 'standard', 'drop'] as const;

/** Turns checked text into a request. Touches no disk; throws `usage.invalid` and `not_supported`. */
export function parseBuildRequest(
  sourceText: string,
  raw: RawBuildOptions,
  config: Config,
  hostArch: string,
): BuildRequest {
  if (raw.tenant !== undefined) {
    throw new BuilderdError('not_supported', 'Cannot use --tenant: this version has no tenants');
  }
  const source = parseSource(sourceText);
  const formats = parseFormats(raw.format);
  const epoch = raw.sourceDateEpoch ?? config.sourceDateEpoch;
  const pull = raw.pull ?? config.settings.DOCKER_PULL_POLICY;
  const filter = parseFilter(raw);
  const runtime = parseRuntime(raw);
  return {
    source,
    platform: parsePlatform(raw.platform ?? `linux/${hostArch}`),
    pullPolicy: choose(pull, PULL_POLICIES, '--pull'),
    formats,
    output: parseOutput(raw.output, source, formats),
    ext4: {
      size: parseSizePolicy(raw.size),
      label: parseLabel(raw.label ?? ''),
      ...(raw.uuid === undefined ? {} : { uuid: parseUuid(raw.uuid) }),
      journal: raw.journal === true,
      lostFound: raw.lostFound,
    },
    guestFiles: raw.guestFiles === true || raw.guestInit !== undefined,
    devices: choose(raw.devices, DEVICE_POLICIES, '--devices'),
    ...(filter === undefined ? {} : { filter }),
    ...(runtime === undefined ? {} : { runtime }),
    ...(epoch === undefined ? {} : { sourceDateEpoch: parseEpoch(epoch) }),
  };
}

function parseFilter(raw: RawBuildOptions): FilterSpec | undefined {
  const filter = {
    exclude: raw.exclude ?? [],
    preserve: raw.preserve ?? [],
    removeDocs: raw.removeDocs === true,
    removeCache: raw.removeCache === true,
  };
  // A bad pattern is told before anything is pulled.
  const { root } = new TreeFilter(filter);
  return root.places.length === 0 ? undefined : filter;
}

function bad(option: string, value: string, wanted: string): BuilderdError {
  const shown = JSON.stringify(value.slice(0, 100));
  return new BuilderdError('usage.invalid', `Cannot use ${option} ${shown}: want ${wanted}`);
}

function choose<const W extends string>(value: string, words: readonly W[], option: string): W {
  const word = words.find((candidate) => candidate === value);
  if (word === undefined) throw bad(option, value, words.join(', '));
  return word;
}

function parseFormats(text: string): readonly Format[] {
  const formats = text.split(',').map((name) => choose(name.trim(), FORMATS, '--format'));
  if (new Set(formats).size !== formats.length) throw bad('--format', text, 'each format once');
  return formats;
}

const ARCHITECTURES = new Map([
  ['x86_64', 'amd64'],
  ['x64', 'amd64'],
  ['aarch64', 'arm64'],
  ['ia32', '386'],
  ['i386', '386'],
]);

/** `os/arch[/variant]` in containerd's spelling; the usual other names of an architecture too. */
export function parsePlatform(text: string): Platform {
  const match = /^([a-z0-9]{1,32})\/([a-z0-9_]{1,32})(?:\/([a-z0-9.]{1,32}))?$/.exec(text);
  if (match === null) throw bad('--platform', text, 'os/arch[/variant] such as linux/arm64');
  const [, os = '', arch = '', variant] = match;
  if (os !== 'linux') {
    throw new BuilderdError('not_supported', `Cannot build for ${os}: only linux is supported`);
  }
  const architecture = ARCHITECTURES.get(arch) ?? arch;
  return variant === undefined ? { os, architecture } : { os, architecture, variant };
}

/** `min`, `min+64M`, `2G`. */
export function parseSizePolicy(text: string): SizePolicy {
  if (text === 'min') return { kind: 'min', extraBytes: 0 };
  if (text.startsWith('min+')) {
    return { kind: 'min', extraBytes: parseSize(text.slice(4), '--size') };
  }
  const bytes = parseSize(text, '--size');
  if (bytes === 0) throw bad('--size', text, 'min, min+FREE or more than nothing');
  return { kind: 'fixed', bytes };
}

function parseLabel(label: string): string {
  if (label.includes('\0') || Buffer.byteLength(label) > 16) {
    throw bad('--label', label, 'at most 16 bytes');
  }
  return label;
}

function parseUuid(text: string): Buffer {
  if (!/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) {
    throw bad('--uuid', text, 'a UUID such as 01234567-89ab-cdef-0123-456789abcdef');
  }
  return Buffer.from(text.replaceAll('-', ''), 'hex');
}

function parseEpoch(text: string): number {
  const seconds = /^\d{1,11}$/.test(text) ? Number(text) : Number.NaN;
  if (seconds <= MAX_EPOCH) return seconds;
  throw bad('--source-date-epoch', text, `whole seconds since 1970, at most ${MAX_EPOCH}`);
}

/** Milliseconds of `--timeout`; undefined for no limit. */
export function parseTimeout(raw: RawBuildOptions, config: Config): number | undefined {
  const { settings, given } = config;
  if (raw.timeout === undefined) {
    return given.has('BUILD_TIMEOUT') ? settings.BUILD_TIMEOUT : undefined;
  }
  const setting = durationMs(1, '');
  const parsed = setting.parse(raw.timeout);
  if (parsed === undefined) throw bad('--timeout', raw.timeout, setting.wanted);
  return parsed;
}

function parseOutput(
  path: string | undefined,
  source: ImageSource,
  formats: readonly Format[],
): BuildRequest['output'] {
  const [first] = formats;
  const single = formats.length === 1 && first !== undefined;
  if (path === undefined) {
    const name = outputName(source);
    return single ? { kind: 'file', path: `${name}.${first}` } : { kind: 'directory', path: name };
  }
  if (path === '' || path.includes('\0')) throw bad('--output', path, 'a path');
  if (single && /(?:^|\/)\.{0,2}$/.test(path)) {
    throw bad('--output', path, 'the name of a file, because there is one format');
  }
  return { kind: single ? 'file' : 'directory', path };
}

/** `ghcr.io/org/app:1.2` gives `app-1.2`; `oci:./layout:v1` gives `layout-v1`. */
export function outputName(source: ImageSource): string {
  const text =
    source.kind === 'registry'
      ? source.reference.replace(/@.*$/, '')
      : [source.path.replace(/\.(?:oci|docker)?\.?tar$/, ''), source.tag ?? ''].join(':');
  const last =
    text
      .replace(/[/:]+$/, '')
      .split('/')
      .at(-1) ?? '';
  const clean = last.replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^[-.]+|[-.]+$/g, '');
  return clean === '' ? 'rootfs' : clean;
}
