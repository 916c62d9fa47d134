import { posix } from 'node:path';
import type { ExposedPort } from './image-config.ts';
import { badConfig, shown } from './json-fields.ts';

type Warn = (message: string) => void;

const MAX_PATH_BYTES = 4095;

/** `NAME=value` entries; malformed ones are dropped with a warning (security.md A29). */
export function parseEnv(entries: readonly string[], warn: Warn): ReadonlyMap<string, string> {
  const env = new Map<string, string>();
  for (const entry of entries) {
    const equals = entry.indexOf('=');
    const name = equals < 0 ? entry : entry.slice(0, equals);
    if (equals < 0) {
      warn(`Env ${shown(entry)} has no "="; dropped`);
    } else if (name === '' || /[\r\n]/.test(name)) {
      warn(`Env ${shown(entry)} has no usable name; dropped`);
    } else {
      env.set(name, entry.slice(equals + 1));
    }
  }
  return env;
}

/**
 * The working directory, made absolute and free of "..". Places under /proc, /sys and /dev are
 * refused: a directory such as /proc/self/fd/8 leads out of a container (CVE-2024-21626).
 */
export function parseWorkingDir(text: string): string {
  if (text.includes('\0')) throw badConfig('WorkingDir holds a NUL byte');
  if (Buffer.byteLength(text) > MAX_PATH_BYTES) {
    throw badConfig(`WorkingDir is longer than ${MAX_PATH_BYTES} bytes`);
  }
  const path = absolute(text);
  if (/^\/(?:proc|sys|dev)(?:\/|$)/.test(path)) {
    throw badConfig(`WorkingDir ${shown(text)} lies under /proc, /sys or /dev`);
  }
  return path;
}

/** `80`, `80/tcp`, `8000-8010/udp`; others are dropped with a warning. */
export function parsePorts(keys: readonly string[], warn: Warn): readonly ExposedPort[] {
  const ports: ExposedPort[] = [];
  for (const key of keys) {
    const match = /^(\d{1,5})(?:-(\d{1,5}))?(?:\/(tcp|udp|sctp))?$/i.exec(key);
    const port = Number(match?.[1]);
    const lastPort = Number(match?.[2] ?? match?.[1]);
    if (match === null || port < 1 || lastPort < port || lastPort > 65_535) {
      warn(`ExposedPorts ${shown(key)} is no port; dropped`);
      continue;
    }
    ports.push({ port, lastPort, protocol: protocolOf(match[3]) });
  }
  return ports.sort(
    (a, b) => a.port - b.port || a.lastPort - b.lastPort || (a.protocol < b.protocol ? -1 : 1),
  );
}

function protocolOf(text: string | undefined): ExposedPort['protocol'] {
  const lower = text?.toLowerCase();
  return lower === 'udp' || lower === 'sctp' ? lower : 'tcp';
}

/** Volumes are names of places in the guest; what is no clean absolute path is dropped (A33). */
export function parseVolumes(keys: readonly string[], warn: Warn): readonly string[] {
  const volumes = new Set<string>();
  for (const key of keys) {
    const clean =
      key.startsWith('/') &&
      !key.includes('\0') &&
      !key.split('/').includes('..') &&
      Buffer.byteLength(key) <= MAX_PATH_BYTES;
    if (clean) volumes.add(absolute(key));
    else warn(`Volumes ${shown(key)} is no clean absolute path; dropped`);
  }
  return [...volumes].sort();
}

function absolute(path: string): string {
  const clean = posix.normalize(`/${path}`);
  return clean.length > 1 && clean.endsWith('/') ? clean.slice(0, -1) : clean;
}
