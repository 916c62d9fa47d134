import { BuilderdError } from '../../core/errors.ts';
import type { Platform } from '../../core/oci.ts';

const WORD = /^[A-Za-z0-9_.-]{1,64}$/;

const ARCHITECTURES = new Map<string, { architecture: string; variant?: string }>([
  ['x86_64', { architecture: 'amd64' }],
  ['x86-64', { architecture: 'amd64' }],
  ['i386', { architecture: '386' }],
  ['i486', { architecture: '386' }],
  ['i586', { architecture: '386' }],
  ['i686', { architecture: '386' }],
  ['aarch64', { architecture: 'arm64' }],
  ['armhf', { architecture: 'arm', variant: 'v7' }],
  ['armel', { architecture: 'arm', variant: 'v6' }],
]);

/** What a bare architecture means, and the older variants that a machine of a variant also runs. */
const VARIANTS = new Map<
  string,
  { readonly implied: string; readonly newestFirst: readonly string[] }
>([
  ['amd64', { implied: 'v1', newestFirst: ['v4', 'v3', 'v2', 'v1'] }],
  ['arm64', { implied: 'v8', newestFirst: ['v9', 'v8'] }],
  ['arm', { implied: 'v7', newestFirst: ['v8', 'v7', 'v6', 'v5'] }],
]);

/** `linux/amd64`, `linux/arm64/v8`, `arm64`. Throws `usage.invalid`. */
export function parsePlatform(text: string): Platform {
  const parts = text.split('/');
  if (parts.length > 3 || !parts.every((part) => WORD.test(part))) {
    throw new BuilderdError(
      'usage.invalid',
      `Cannot use platform ${JSON.stringify(text.slice(0, 100))}: want os/architecture[/variant], for example linux/amd64`,
    );
  }
  const [first = '', second, variant] = parts;
  if (second === undefined) return normalizePlatform({ os: 'linux', architecture: first });
  return normalizePlatform({
    os: first,
    architecture: second,
    ...(variant === undefined ? {} : { variant }),
  });
}

/** Common other spellings become Go's; an implied variant is left out, so equal means equal. */
export function normalizePlatform(platform: Platform): Platform {
  const os = platform.os.toLowerCase();
  const known = ARCHITECTURES.get(platform.architecture.toLowerCase());
  const architecture = known?.architecture ?? platform.architecture.toLowerCase();
  const given = platform.variant === '' ? undefined : platform.variant?.toLowerCase();
  const spelled = /^\d$/.test(given ?? '') ? `v${given}` : (given ?? known?.variant);
  const variant = spelled === VARIANTS.get(architecture)?.implied ? undefined : spelled;
  return { os, architecture, ...(variant === undefined ? {} : { variant }) };
}

export function formatPlatform(platform: Platform): string {
  const { os, architecture, variant } = platform;
  return variant === undefined ? `${os}/${architecture}` : `${os}/${architecture}/${variant}`;
}

/**
 * How well an offered platform serves the wanted one: 0 is exact, larger is an older variant that
 * still runs; undefined when it does not run.
 */
export function platformDistance(wanted: Platform, offered: Platform): number | undefined {
  const want = normalizePlatform(wanted);
  const offer = normalizePlatform(offered);
  if (want.os !== offer.os || want.architecture !== offer.architecture) return undefined;
  if (want.variant === offer.variant) return 0;
  const table = VARIANTS.get(want.architecture);
  if (table === undefined) return undefined;
  const wantAt = table.newestFirst.indexOf(want.variant ?? table.implied);
  const offerAt = table.newestFirst.indexOf(offer.variant ?? table.implied);
  return wantAt === -1 || offerAt < wantAt ? undefined : offerAt - wantAt;
}
