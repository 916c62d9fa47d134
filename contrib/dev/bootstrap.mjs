#!/usr/bin/env node
// The door of every npm script: plain JavaScript that runs on any Node from 20, with nothing
// installed. It supplies what the asked lane lacks (npm packages, Debian packages, the native
// parts), says what and why, and hands over to the Node that the lock file pins. Repeating it is
// safe; with nothing missing it is silent and takes a fraction of a second.

import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { statSync, writeFileSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { APT_REASONS, LANES } from './lanes.mjs';

const ROOT = resolve(fileURLToPath(import.meta.url), '../../..');
const PINNED_BIN = join(ROOT, 'node_modules/.bin');
const PINNED_NODE = join(PINNED_BIN, 'node');
// A root shell made by `su` has no sbin directories, and half of our tools live there.
const PATH = [PINNED_BIN, process.env.PATH ?? '', '/usr/local/sbin:/usr/sbin:/sbin'].join(
  delimiter,
);

/** Stops with one sentence for the user. */
class Refusal extends Error {}

let interruptedBy;
let current;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => interrupt(signal));
if (process.env.npm_lifecycle_event !== undefined) {
  // npm hands a signal to its shell only, and that dies without a word to us.
  const parent = process.ppid;
  setInterval(() => process.ppid === parent || interrupt('SIGTERM'), 500).unref();
}

function interrupt(signal) {
  if (interruptedBy !== undefined && signal === 'SIGTERM') return;
  interruptedBy ??= signal;
  if (current?.protected !== true) current?.child.kill(signal);
}

try {
  process.exitCode = await main(process.argv[2] ?? '', process.argv.slice(3));
} catch (reason) {
  if (!(reason instanceof Refusal)) throw reason;
  console.error(`builderd: ${reason.message}`);
  process.exitCode = interruptedBy === undefined ? 3 : 130;
}

async function main(name, args) {
  const lane = Object.hasOwn(LANES, name) ? LANES[name] : undefined;
  if (lane === undefined) {
    throw new Refusal(`name a lane: ${Object.keys(LANES).join(', ')}.`);
  }
  refuseWrongMachine();
  if (lane.root && process.getuid() !== 0) {
    throw new Refusal(
      `\`npm run ${name}\` starts a private containerd and mounts file systems, so run it as root.`,
    );
  }
  await supplyNpmPackages();
  await supplyDebianPackages(lane.apt, name);
  if (lane.native) await supplyNativeParts();
  if (lane.program === undefined) return 0;
  return await run(PINNED_NODE, [join(ROOT, lane.program), ...lane.args, ...args], {});
}

function refuseWrongMachine() {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < 20) {
    throw new Refusal(`this needs Node 20 or later to begin with; this is ${process.version}.`);
  }
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Refusal(
      `this needs Linux on x86-64; this machine is ${process.platform} on ${process.arch}.`,
    );
  }
}

/** Runs to the end and gives the exit code. `protected` children do not see Ctrl-C. */
async function run(program, args, { protect = false, env = {}, log } = {}) {
  const child = spawn(program, args, {
    cwd: ROOT,
    env: { ...process.env, PATH, ...env },
    detached: protect,
    stdio: log === undefined ? 'inherit' : ['ignore', 'pipe', 'pipe'],
  });
  current = { child, protected: protect };
  child.stdout?.on('data', (chunk) => log.push(chunk));
  child.stderr?.on('data', (chunk) => log.push(chunk));
  try {
    return await new Promise((settle, fail) => {
      child.on('error', fail);
      child.on('close', (code, signal) => settle(signal === null ? code : 130));
    });
  } finally {
    current = undefined;
  }
}

/** Runs quietly; on failure shows what the program said and stops with `sentence`. */
async function runQuietly(program, args, sentence, options = {}) {
  const log = [];
  const code = await run(program, args, { ...options, log });
  if (interruptedBy !== undefined) throw new Refusal('stopped; nothing was started.');
  if (code === 0) return;
  process.stderr.write(Buffer.concat(log));
  throw new Refusal(sentence);
}

function say(text) {
  console.error(`builderd: ${text}`);
}

// npm packages -------------------------------------------------------------------------------

async function supplyNpmPackages() {
  if (installedMatchesLock()) return;
  say('installing the npm packages that package-lock.json names (npm ci) …');
  // npm's own patience is more than ten silent minutes; `npm run -s` would hush its errors too.
  const patience = ['--fetch-retries=2', '--fetch-timeout=60000', '--fetch-retry-maxtimeout=10000'];
  const common = ['--ignore-scripts', '--no-fund', '--no-audit', '--loglevel=error', ...patience];
  if ((await npm(['ci', ...common], [])) !== 0 && interruptedBy === undefined) {
    // Mirrors that hold packages of one platform only make npm leave the others' out of a lock
    // file, which `npm ci` then refuses. This takes the same locked versions and saves nothing.
    const log = [];
    const code = await npm(['install', '--no-save', ...common], log);
    if (code !== 0) {
      process.stderr.write(Buffer.concat(log));
      throw new Refusal('npm failed (above); check the npm registry and run this again.');
    }
  }
  if (interruptedBy !== undefined) throw new Refusal('stopped; nothing was started.');
  if (!installedMatchesLock()) {
    throw new Refusal('npm ended well, but node_modules still differs from package-lock.json.');
  }
}

/** npm may itself be a script of another Node: start it as it was started for us. */
function npm(args, log) {
  const script = process.env.npm_execpath;
  return script?.endsWith('.js')
    ? run(process.execPath, [script, ...args], { log })
    : run('npm', args, { log });
}

function installedMatchesLock() {
  const wanted = readPackages(join(ROOT, 'package-lock.json'));
  const present = readPackages(join(ROOT, 'node_modules/.package-lock.json'));
  if (present === undefined || !existsSync(PINNED_NODE)) return false;
  return Object.entries(wanted).every(
    ([path, entry]) =>
      path === '' || entry.optional === true || present[path]?.version === entry.version,
  );
}

function readPackages(file) {
  if (!existsSync(file)) return undefined;
  return JSON.parse(readFileSync(file, 'utf8')).packages;
}

// Debian packages ----------------------------------------------------------------------------

async function supplyDebianPackages(wanted, name) {
  const missing = missingDebianPackages(wanted);
  if (missing.length === 0) return;
  const list = missing.join(' ');
  if (!existsSync('/usr/bin/apt-get')) {
    throw new Refusal(`this needs Debian; elsewhere install the like of: ${list}.`);
  }
  if (process.getuid() !== 0) {
    throw new Refusal(
      `Debian packages are missing; run \`npm run ${name}\` as root, or: apt-get install ${list}`,
    );
  }
  say(`installing ${missing.length} Debian packages by apt, without starting any service:`);
  for (const each of missing) console.error(`  ${each.padEnd(40)} ${APT_REASONS[each]}`);
  if (!aptListsAreFresh()) await aptUpdate();
  const options = ['-y', '-q', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=300'];
  const env = { DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' };
  const fetch = ['install', ...options, '--download-only', ...missing];
  if ((await run('apt-get', fetch, { env, log: [] })) !== 0 && interruptedBy === undefined) {
    await aptUpdate();
  }
  await runQuietly('apt-get', fetch, 'apt-get could not fetch these packages (above).', { env });
  const undo = forbidServiceStart();
  try {
    // Out of reach of Ctrl-C: a half-configured dpkg is worse than a few more seconds.
    await runQuietly('apt-get', ['install', ...options, ...missing], 'apt-get failed (above).', {
      env,
      protect: true,
    });
  } finally {
    undo();
  }
  disableUnits(missing);
}

function missingDebianPackages(wanted) {
  if (wanted.length === 0) return [];
  const format = '-f=${Package}\t${db:Status-Status}\n';
  const result = spawnSync('dpkg-query', ['-W', format, ...wanted], { encoding: 'utf8' });
  if (result.error !== undefined) return wanted;
  const installed = new Set(
    result.stdout
      .split('\n')
      .filter((line) => line.endsWith('\tinstalled'))
      .map((line) => line.split('\t')[0]),
  );
  return wanted.filter((each) => !installed.has(each));
}

function aptListsAreFresh() {
  const dir = '/var/lib/apt/lists';
  const dayAgoMs = Date.now() - 24 * 3600 * 1000;
  return (
    existsSync(dir) &&
    readdirSync(dir).some((each) => each.includes('_Packages')) &&
    statSync(dir).mtimeMs > dayAgoMs
  );
}

async function aptUpdate() {
  say('refreshing the package lists (apt-get update) …');
  const options = ['-q', '-o', 'DPkg::Lock::Timeout=300'];
  const sentence = '`apt-get update` failed (above); check /etc/apt and the network.';
  await runQuietly('apt-get', ['update', ...options], sentence);
}

/** Debian starts a daemon as it installs it; an admin's own policy is left as it is. */
function forbidServiceStart() {
  const policy = '/usr/sbin/policy-rc.d';
  if (existsSync(policy)) return () => undefined;
  writeFileSync(
    policy,
    '#!/bin/sh\n# Made by builderd for one installation; safe to remove.\nexit 101\n',
  );
  chmodSync(policy, 0o755);
  return () => rmSync(policy, { force: true });
}

/** The daemons are used as private ones only: what was not enabled before stays off at boot. */
function disableUnits(installed) {
  for (const unit of ['containerd', 'docker-registry']) {
    if (!installed.includes(unit)) continue;
    // Debian's own tool, which works without a running systemd but only speaks to dpkg.
    const env = { PATH, DPKG_MAINTSCRIPT_PACKAGE: unit };
    spawnSync('deb-systemd-helper', ['disable', `${unit}.service`], { env });
  }
}

// Native parts -------------------------------------------------------------------------------

async function supplyNativeParts() {
  if (!existsSync(join(ROOT, 'native/build.ts'))) return;
  const stamp = join(ROOT, 'prebuilds/.sources.sha256');
  const digest = digestOfTree(join(ROOT, 'native'));
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return;
  say('compiling the native parts (native/build.ts) …');
  const sentence = 'the native parts do not compile (above).';
  await runQuietly(PINNED_NODE, [join(ROOT, 'native/build.ts')], sentence);
  mkdirSync(join(ROOT, 'prebuilds'), { recursive: true });
  writeFileSync(stamp, digest);
}

function digestOfTree(dir) {
  const hash = createHash('sha256');
  const names = readdirSync(dir, { recursive: true, encoding: 'utf8' }).sort((a, b) =>
    a < b ? -1 : 1,
  );
  for (const name of names) {
    const path = join(dir, name);
    if (!/\.(?:c|h|ts)$/.test(name) || !statSync(path).isFile()) continue;
    hash.update(`${name}\0`).update(readFileSync(path)).update('\0');
  }
  return hash.digest('hex');
}
