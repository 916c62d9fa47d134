import { type Digest, isDigest } from '../../core/digest.ts';
import { BuilderdError } from '../../core/errors.ts';
import { canonicalHost } from '../../egress/host.ts';

/** A parsed and normalised image name; grammar of the distribution project's reference package. */
export interface ImageReference {
  /** `docker.io` or `host[:port]`, canonical. */
  readonly registry: string;
  readonly repository: string;
  /** Absent when the reference carries a digest: the digest decides. */
  readonly tag?: string;
  readonly digest?: Digest;
}

const MAX_REFERENCE = 1024;
const MAX_NAME = 255;
const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const DOCKER_HUB = 'docker.io';
const HUB_NAMES = new Set(['docker.io', 'index.docker.io', 'registry-1.docker.io']);

/** Throws `source.invalid` with the fact that makes the text no reference. */
export function parseReference(text: string): ImageReference {
  if (text.length > MAX_REFERENCE) throw invalid(text, `it is longer than ${MAX_REFERENCE} bytes`);
  const [named = '', digestText, ...rest] = text.split('@');
  if (rest.length > 0) throw invalid(text, 'it holds more than one @');
  if (digestText !== undefined && !isDigest(digestText)) {
    throw invalid(text, 'its digest is not sha256:<64 hex> or sha512:<128 hex>');
  }
  const slash = named.lastIndexOf('/');
  const colon = named.indexOf(':', slash + 1);
  const name = colon === -1 ? named : named.slice(0, colon);
  const tag = colon === -1 ? undefined : named.slice(colon + 1);
  if (tag !== undefined && !TAG.test(tag)) throw invalid(text, 'its tag is not valid');
  const { registry, path } = splitRegistry(name, text);
  const repository = registry === DOCKER_HUB && !path.includes('/') ? `library/${path}` : path;
  for (const component of repository.split('/')) {
    if (!COMPONENT.test(component)) {
      throw invalid(text, 'a repository is lower-case words joined by one of . _ __ - and /');
    }
  }
  if (registry.length + 1 + repository.length > MAX_NAME) {
    throw invalid(text, `its name is longer than ${MAX_NAME} bytes`);
  }
  if (digestText !== undefined) return { registry, repository, digest: digestText };
  return { registry, repository, tag: tag ?? 'latest' };
}

/** `docker.io/library/debian:bookworm`, `host:5000/a/b@sha256:…`: also the image record's name. */
export function formatReference(reference: ImageReference): string {
  const name = `${reference.registry}/${reference.repository}`;
  if (reference.digest !== undefined) return `${name}@${reference.digest}`;
  return `${name}:${reference.tag ?? 'latest'}`;
}

/** The host that answers for a registry where no hosts.toml says otherwise. */
export function apiHostOf(registry: string): string {
  return registry === DOCKER_HUB ? 'registry-1.docker.io' : registry;
}

/** First component is a host only with a dot, a colon or the name localhost: as Docker reads it. */
function splitRegistry(name: string, text: string): { registry: string; path: string } {
  const slash = name.indexOf('/');
  const first = slash === -1 ? '' : name.slice(0, slash);
  const isHost = first.startsWith('[') || /[.:]/.test(first) || first === 'localhost';
  if (!isHost) return { registry: DOCKER_HUB, path: name };
  const path = name.slice(slash + 1);
  const registry = parseHostPort(first, text);
  return { registry: HUB_NAMES.has(registry) ? DOCKER_HUB : registry, path };
}

function parseHostPort(first: string, text: string): string {
  const match = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?$/.exec(first);
  if (match?.[1] === undefined) throw invalid(text, 'its registry is not host[:port] in ASCII');
  const port = match[2] === undefined ? undefined : Number(match[2]);
  if (port !== undefined && (port === 0 || port > 65_535))
    throw invalid(text, 'its port is not valid');
  const host = canonicalHost(match[1]);
  const shown = host.includes(':') ? `[${host}]` : host;
  return port === undefined ? shown : `${shown}:${port}`;
}

function invalid(text: string, fact: string): BuilderdError {
  const shown = JSON.stringify(text.slice(0, 100).replace(/^.*:[^/]*@(?!sha)/, '…@'));
  return new BuilderdError('source.invalid', `Cannot use image reference ${shown}: ${fact}`);
}
