import { megabytes } from '../table.ts';
import { type Verdict, verdict } from '../targets.ts';
import type { ClaimTimes } from './claims.ts';
import type { FollowerTimes } from './followers.ts';
import type { StartUp } from './start-up.ts';
import type { Throughput } from './throughput.ts';

const CLAIM_P99_MS = 20;
const BARE_SHARE = 0.5;
const DELIVERY_P99_MS = 1000;
const FOLLOWERS_BYTES = 150e6;
const START_MS = 2000;
const IDLE_BYTES = 150e6;

export interface ServiceResults {
  readonly claims: readonly ClaimTimes[];
  readonly throughput: readonly Throughput[];
  readonly followers: readonly FollowerTimes[];
  readonly startUps: readonly StartUp[];
}

export function serviceVerdicts(results: ServiceResults): Verdict[] {
  const { claims, throughput, followers, startUps } = results;
  return [
    ...claims.map(({ database, tenants, claimers, transaction }) =>
      verdict(
        `${database}: p99 of the transaction of a claim among 10,000 builds of ${thousands(tenants)} tenants, ${claimers} at once, under ${CLAIM_P99_MS} ms`,
        transaction.p99,
        (value) => value < CLAIM_P99_MS,
        milliseconds,
      ),
    ),
    ...throughput.map(({ database, route, ours, bare }) =>
      verdict(
        `${database}: ${route} at no less than ${percent(BARE_SHARE)} of bare Fastify with the same SQL`,
        ours.perSecond / bare.perSecond,
        (value) => value >= BARE_SHARE,
        percent,
      ),
    ),
    ...followers.flatMap(({ database, p99Ms, grownBytes, delivered, expected }) => [
      verdict(
        `${database}: 500 followers get p99 of the entries within 1 s, and all of them`,
        delivered === expected ? p99Ms : undefined,
        (value) => value < DELIVERY_P99_MS,
        milliseconds,
      ),
      verdict(
        `${database}: 500 followers, 50 of them not reading, cost the api at most ${megabytes(FOLLOWERS_BYTES)}`,
        grownBytes,
        (value) => value <= FOLLOWERS_BYTES,
        megabytes,
      ),
    ]),
    ...startUps.flatMap((each) => [
      verdict(
        `${each.database}: ready with ${thousands(each.builds)} builds in under 2 s`,
        Math.max(each.healthyMs, each.readyMs),
        (value) => value < START_MS,
        milliseconds,
      ),
      verdict(
        `${each.database}: all idle processes together under ${megabytes(IDLE_BYTES)} (Pss)`,
        idleBytes(each),
        (value) => value < IDLE_BYTES,
        megabytes,
      ),
    ]),
  ];
}

export function renderService({
  claims,
  throughput,
  followers,
  startUps,
}: ServiceResults): string[] {
  return [
    '## Claims',
    '',
    ...table(
      [
        'Database',
        'Tenants',
        'Claimers',
        'Claims',
        'Transaction p50',
        'p99',
        'max',
        'With the wait for other claimers: p50',
        'p99',
        'max',
      ],
      claims.map((each) => [
        each.database,
        thousands(each.tenants),
        String(each.claimers),
        String(each.claims),
        ...[each.transaction, each.call].flatMap(({ p50, p99, max }) =>
          [p50, p99, max].map(milliseconds),
        ),
      ]),
    ),
    '',
    '## Requests',
    '',
    ...table(
      ['Database', 'Route', 'builderd', 'p50', 'p99', 'bare Fastify', 'p50', 'p99'],
      throughput.map(({ database, route, ours, bare }) => [
        database,
        route,
        ...[ours, bare].flatMap(({ perSecond, p50Ms, p99Ms }) => [
          `${perSecond.toFixed(0)}/s`,
          milliseconds(p50Ms),
          milliseconds(p99Ms),
        ]),
      ]),
    ),
    '',
    '## Followers',
    '',
    ...table(
      ['Database', 'Readers', 'Not reading', 'Entries delivered', 'p50', 'p99', 'RSS grew by'],
      followers.map((each) => [
        each.database,
        String(each.readers),
        String(each.sleepers),
        `${thousands(each.delivered)} of ${thousands(each.expected)}`,
        milliseconds(each.p50Ms),
        milliseconds(each.p99Ms),
        megabytes(each.grownBytes),
      ]),
    ),
    '',
    '## Start and idle memory',
    '',
    ...table(
      ['Database', 'Builds', '/health', '/health/ready', 'Starts', 'Pss after 10 s'],
      startUps.map((each) => [
        each.database,
        thousands(each.builds),
        milliseconds(each.healthyMs),
        milliseconds(each.readyMs),
        String(each.starts),
        each.idle
          .map(({ process, pssBytes }) => `${process} ${megabytes(pssBytes)}`)
          .concat(`together ${megabytes(idleBytes(each))}`)
          .join(', '),
      ]),
    ),
    '',
  ];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), `|${head.map(() => '---').join('|')}|`, ...rows.map(line)];
}

function idleBytes({ idle }: StartUp): number {
  return idle.reduce((sum, { pssBytes }) => sum + pssBytes, 0);
}

function milliseconds(ms: number): string {
  return `${ms < 100 ? ms.toFixed(1) : ms.toFixed(0)} ms`;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(0)} %`;
}

function thousands(count: number): string {
  return count.toLocaleString('en');
}
