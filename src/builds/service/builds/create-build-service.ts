import { isTerminal } from '../../../core/build-state.ts';
import { BuilderdError } from '../../../core/errors.ts';
import { throwIfAborted } from '../../../core/scope.ts';
import { writeAudit } from '../../../store/audit/write-audit.ts';
import { cancelBuild } from '../../../store/builds/cancel-build.ts';
import { deleteBuild } from '../../../store/builds/delete-build.ts';
import { lockBuild } from '../../../store/builds/find-build.ts';
import { countBuilds, listBuilds } from '../../../store/builds/list-builds.ts';
import type { Database, DoorbellTopic } from '../../../store/database.ts';
import { FOLLOWER_LIMITS } from '../../logs/follower-slots.ts';
import { LogFollowers } from '../../logs/log-followers.ts';
import { LogReader } from '../../logs/log-reader.ts';
import type { BuildService } from '../build-service.ts';
import { BuildArtifacts } from './build-artifacts.ts';
import { buildStats } from './build-stats.ts';
import { viewBuild, viewBuilds } from './build-view.ts';
import { createBuild } from './create-build.ts';
import { openCursor, signCursor } from './cursor.ts';
import { parseListFilter } from './list-filter.ts';
import { assertMayChange } from './may-change.ts';
import { noSuchBuild, requireBuild } from './require-build.ts';
import { ServedBytes } from './served-bytes.ts';
import type { BuildServiceOptions } from './service-options.ts';

const MAX_READ = 1000;

export function createBuildService(options: BuildServiceOptions): BuildService & AsyncDisposable {
  const { database, secrets, log } = options;
  const reader = new LogReader(database, options.artifacts);
  const limits = options.followers ?? FOLLOWER_LIMITS;
  const followers = new LogFollowers({ database, reader, limits, log });
  const served = new ServedBytes(database, log);
  const artifacts = new BuildArtifacts(database, options.artifacts, served);
  const cursorKey = secrets.deriveKey('cursors of build lists');

  return {
    create: (caller, tenant, spec, call) => createBuild(options, caller, tenant, spec, call),

    async get(tenant, id, { signal }) {
      throwIfAborted(signal, 'read the build');
      return await viewBuild(database, tenant, await requireBuild(database, tenant, id));
    },

    async list(tenant, query, { signal }) {
      throwIfAborted(signal, 'list builds');
      const filter = parseListFilter(query);
      const scope = { tenantId: tenant.id, filter };
      const { cursor, limit } = query;
      const before = cursor === undefined ? undefined : openCursor(cursorKey, scope, cursor);
      const page = await listBuilds(database, tenant.id, filter, { before, limit });
      const builds = await viewBuilds(database, tenant, page.builds);
      const total = await countBuilds(database, tenant.id, filter);
      if (page.last === undefined) return { builds, total };
      return { builds, total, nextCursor: signCursor(cursorKey, scope, page.last) };
    },

    async cancel(caller, tenant, id, { signal }) {
      assertMayChange(caller, tenant);
      const outcome = await database.transaction(
        async (tx) => {
          const before = await lockBuild(tx, tenant.id, id);
          const done = await cancelBuild(tx, tenant.id, id);
          if (done === 'cancelled' || done === 'requested') {
            await writeAudit(tx, caller, {
              tenantId: tenant.id,
              action: 'build.cancel',
              target: id,
              oldValue: { state: before?.state },
              newValue: done === 'cancelled' ? { state: done } : { cancelRequested: true },
            });
          }
          return done;
        },
        { signal },
      );
      if (outcome === undefined) throw noSuchBuild();
      if (outcome === 'requested') database.ring('control');
      if (outcome === 'cancelled') {
        options.onCancelledWaiting?.();
        ringAll(database, ['queue', 'logs', 'events']);
      }
      return await viewBuild(database, tenant, await requireBuild(database, tenant, id));
    },

    async delete(caller, tenant, id, { force, signal }) {
      assertMayChange(caller, tenant);
      const outcome = await database.transaction(
        async (tx) => {
          const before = await lockBuild(tx, tenant.id, id);
          const done = await deleteBuild(tx, tenant.id, id, { force });
          if (done === 'deleted' || done === 'stopping') {
            await writeAudit(tx, caller, {
              tenantId: tenant.id,
              action: 'build.delete',
              target: id,
              oldValue: { state: before?.state, name: before?.name },
              newValue: { deleted: true, force },
            });
          }
          return done;
        },
        { signal },
      );
      if (outcome === undefined) throw noSuchBuild();
      if (outcome === 'running') {
        throw new BuilderdError(
          'api.conflict',
          'Cannot delete the build: it runs; cancel it or use force',
        );
      }
      ringAll(database, ['control', 'queue', 'logs', 'events']);
    },

    async readLog(tenant, id, { from, limit, signal }) {
      assertEntryNumber(from);
      const build = await requireBuild(database, tenant, id);
      const over = isTerminal(build.state);
      if (from >= build.logEntries) return { entries: [], ended: over };
      const until = Math.min(build.logEntries, from + Math.min(Math.max(1, limit), MAX_READ));
      const entries = await reader.readPage(tenant.id, id, { from, until }, { signal });
      return { entries, ended: over && from + entries.length >= build.logEntries };
    },

    followLog(tenant, id, { from, signal }) {
      assertEntryNumber(from);
      return followers.follow(tenant.id, id, { from, signal });
    },

    async artifacts(tenant, id, { signal }) {
      throwIfAborted(signal, 'list artifacts');
      await requireBuild(database, tenant, id);
      return await artifacts.list(id);
    },

    async openArtifact(tenant, id, name, call) {
      await requireBuild(database, tenant, id);
      return await artifacts.open(tenant, id, name, call);
    },

    stats: (tenant, period, call) => buildStats(database, tenant, period, call),

    async [Symbol.asyncDispose]() {
      await followers[Symbol.asyncDispose]();
      await served[Symbol.asyncDispose]();
    },
  };
}

function assertEntryNumber(from: number): void {
  if (Number.isSafeInteger(from) && from >= 0) return;
  throw new BuilderdError('api.invalid', 'Cannot read the log: entries count from 0');
}

function ringAll(database: Database, topics: readonly DoorbellTopic[]): void {
  for (const topic of topics) database.ring(topic);
}
