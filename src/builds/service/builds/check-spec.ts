import { BuilderdError, isBuilderdError } from '../../../core/errors.ts';
import { isPlainText } from '../../../core/plain-text.ts';
import { parsePlatform } from '../../../runtime/registry/platform.ts';
import { parseReference } from '../../../runtime/registry/reference.ts';
import { TreeFilter } from '../../../rootfs/filter/tree-filter.ts';
import { checkRuntime } from '../../../rootfs/image-config/runtime-overrides.ts';
import type { BuildSpec } from '../../build-spec.ts';
import { requestedFilter } from '../../requested-filter.ts';

/** What admission needs to know of a request. */
export interface SpecFacts {
  /** Canonical host of the registry, with its port if it has one. */
  readonly registry: string;
}

const SECRET = /\.auth\.(?:password|token|sshKey)$/;

/**
 * All that can be wrong with a request before any quota is asked. Throws `api.invalid`,
 * `source.invalid`, `not_supported`.
 */
export function checkSpec(spec: BuildSpec): SpecFacts {
  assertStorable(spec);
  const { source, target } = spec;
  if ('git' in source) throw unsupported('a Git repository');
  if ('archive' in source) throw unsupported('an archive');
  if (target?.sizeBytes !== undefined && target.extraBytes !== undefined) {
    throw new BuilderdError(
      'api.invalid',
      'Cannot use target: give sizeBytes (all of the disk) or extraBytes (free space), not both',
    );
  }
  const largest = spec.limits?.maxDiskBytes ?? Infinity;
  if ((target?.sizeBytes ?? 0) > largest || (target?.extraBytes ?? 0) > largest) {
    throw new BuilderdError(
      'api.invalid',
      'Cannot use target: it is larger than limits.maxDiskBytes',
    );
  }
  if (target?.label !== undefined && Buffer.byteLength(target.label) > 16) {
    throw new BuilderdError('api.invalid', 'Cannot use target.label: it is longer than 16 bytes');
  }
  const { platform } = spec;
  if (platform !== undefined) asRequestFault(() => parsePlatform(platform));
  const filter = requestedFilter(target);
  if (filter !== undefined) asRequestFault(() => new TreeFilter(filter));
  const runtime = target?.runtime;
  if (runtime !== undefined) asRequestFault(() => checkRuntime(runtime));
  const { registry } = parseReference(source.image.reference);
  checkLogin(source.image.auth, registry);
  return { registry };
}

/**
 * Texts are stored, logged and shown on terminals: none holds control characters or half a
 * character. Names of fields count as text too: labels have any. Secrets are only sealed and sent,
 * and a key of SSH has lines: they hold anything but NUL. Throws `api.invalid`.
 */
export function assertStorable(value: unknown, path = ''): void {
  if (typeof value === 'string') {
    const isStorable = SECRET.test(path)
      ? value.isWellFormed() && !value.includes('\0')
      : isPlainText(value);
    if (isStorable) return;
    throw new BuilderdError(
      'api.invalid',
      `Cannot use ${path === '' ? 'the text' : path}: it holds a control character or half a character`,
    );
  }
  if (typeof value !== 'object' || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    assertStorable(key, path);
    assertStorable(inner, path === '' ? key : `${path}.${key}`);
  }
}

/** A login goes to the registry of its image only; who names another one means something else. */
function checkLogin(auth: { readonly registry?: string } | undefined, registry: string): void {
  if (auth?.registry === undefined) return;
  const meant = parseReference(`${auth.registry}/any/image`).registry;
  if (meant === registry) return;
  throw new BuilderdError(
    'api.invalid',
    `Cannot use the login: it is for ${meant}, and the image comes from ${registry}`,
  );
}

/** What the command line calls wrong usage is a wrong request here. */
function asRequestFault(check: () => unknown): void {
  try {
    check();
  } catch (reason) {
    if (!isBuilderdError(reason, 'usage.invalid')) throw reason;
    throw new BuilderdError('api.invalid', reason.message, { cause: reason });
  }
}

function unsupported(source: string): BuilderdError {
  return new BuilderdError(
    'not_supported',
    `Cannot build from ${source}: this version builds from images only`,
  );
}
