import type { Command } from 'commander';
import { BuilderdError } from '../../../core/errors.ts';
import { formatBytes, formatDuration } from '../../../core/units.ts';
import { auditList, buildStats, usage, usageDays, violations } from '../client/answers.ts';
import { safeJson } from '../client/bounded-json.ts';
import { type Grammar, serverCommand, wholeNumber, withServer } from '../command-kit.ts';
import { facts, table } from '../view/table.ts';
import { shortTime } from '../view/times.ts';

interface Period {
  readonly from?: string;
  readonly to?: string;
}

export function usageCommand(grammar: Grammar): Command {
  return serverCommand('usage', 'what the tenant uses now and today, or used on days before')
    .option('--from <day>', 'first UTC day, such as 2026-11-01; with --to')
    .option('--to <day>', 'last UTC day, included')
    .action(
      withServer<Period>(grammar, async (session, { from, to }) => {
        const { client, signal } = session;
        if ((from === undefined) !== (to === undefined)) {
          throw new BuilderdError(
            'usage.invalid',
            'Cannot list usage by day: want both --from and --to',
          );
        }
        if (from !== undefined) {
          const ask = { doing: 'list the usage', query: { from, to }, signal };
          const found = await client.ask('/v1/usage/days', usageDays, ask);
          session.show(found, () => dayTable(found.days));
          return;
        }
        const now = await client.ask('/v1/usage', usage, { doing: 'get the usage', signal });
        session.show(now, () =>
          facts([
            ['Running builds', now.activeBuilds],
            ['Waiting builds', now.queuedBuilds],
            ['Builds today', now.dailyBuildsUsed],
            ['Completed today', now.buildsCompletedToday],
            ['Failed today', now.buildsFailedToday],
            ['Compute today', `${now.computeMinutesUsed} min`],
            ['Storage', formatBytes(now.storageBytesUsed)],
          ]),
        );
      }),
    );
}

function dayTable(days: ReturnType<typeof usageDays>['days']): string {
  const rows = days.map((each) => [
    each.day,
    each.buildsCreated,
    each.buildsCompleted,
    each.buildsFailed,
    each.buildsCancelled,
    formatDuration(each.buildMs),
    formatBytes(each.pulledBytes),
    formatBytes(each.writtenBytes),
    formatBytes(each.servedBytes),
  ]);
  const headings = [
    'DAY',
    'CREATED',
    'COMPLETED',
    'FAILED',
    'CANCELLED',
    'TIME',
    'PULLED',
    'WRITTEN',
    'SERVED',
  ];
  return table(headings, rows);
}

export function violationsCommand(grammar: Grammar): Command {
  return serverCommand('violations', 'what was refused for want of quota, newest first')
    .option('--limit <n>', 'at most this many, 1 to 500', wholeNumber(1, 500), 100)
    .action(
      withServer<{ readonly limit: number }>(grammar, async (session, { limit }) => {
        const { client, signal } = session;
        const ask = { doing: 'list the violations', query: { limit }, signal };
        const found = await client.ask('/v1/violations', violations, ask);
        session.show(found, () => {
          const rows = found.violations.map((each) => [
            shortTime(each.at),
            each.quotaType,
            each.currentValue,
            each.limitValue,
            each.message,
          ]);
          return table(['AT', 'QUOTA', 'CURRENT', 'LIMIT', 'MESSAGE'], rows);
        });
      }),
    );
}

export function statsCommand(grammar: Grammar): Command {
  return serverCommand('stats', 'builds of a period in numbers')
    .option('--from <time>', 'such as 2026-11-23T12:00:00Z')
    .option('--to <time>', 'such as 2026-11-24T12:00:00Z')
    .action(
      withServer<Period>(grammar, async (session, { from, to }) => {
        const { client, signal } = session;
        const ask = { doing: 'get the statistics', query: { from, to }, signal };
        const found = await client.ask('/v1/stats', buildStats, ask);
        session.show(found, () => {
          const rows = found.recentBuilds.map(({ id, state, name, createdAt }) => [
            id,
            state,
            name,
            shortTime(createdAt),
          ]);
          return `${facts([
            ['Builds', found.totalBuilds],
            ['Completed', found.successfulBuilds],
            ['Failed', found.failedBuilds],
            ['Average time', formatDuration(found.averageBuildMs)],
            ['Compute', `${found.totalComputeMinutes} min`],
            ['Storage', formatBytes(found.totalStorageBytes)],
          ])}${rows.length === 0 ? '' : `\n${table(['RECENT', 'STATE', 'NAME', 'CREATED'], rows)}`}`;
        });
      }),
    );
}

export function auditCommand(grammar: Grammar): Command {
  return serverCommand('audit', 'who changed what, newest first (for operators)')
    .option('--limit <n>', 'at most this many, 1 to 500', wholeNumber(1, 500), 100)
    .option('--before <time>', 'only what is older, such as 2026-11-23T12:00:00Z')
    .action(
      withServer<{ readonly limit: number; readonly before?: string }>(
        grammar,
        async (session, { limit, before }) => {
          const { client, signal } = session;
          const ask = { doing: 'list the audit log', query: { limit, before }, signal };
          const found = await client.ask('/v1/audit', auditList, ask);
          session.show(found, () => {
            const rows = found.entries.map((each) => [
              shortTime(each.at),
              each.actor,
              each.tenant,
              each.action,
              each.target,
              each.newValue === undefined ? undefined : safeJson(each.newValue),
              each.address,
            ]);
            return table(['AT', 'ACTOR', 'TENANT', 'ACTION', 'TARGET', 'NEW VALUE', 'FROM'], rows);
          });
        },
      ),
    );
}
