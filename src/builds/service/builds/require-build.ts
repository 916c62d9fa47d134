import { BuilderdError } from '../../../core/errors.ts';
import type { BuildId } from '../../../core/ids.ts';
import type { BuildRecord } from '../../../store/builds/build-record.ts';
import { findBuild } from '../../../store/builds/find-build.ts';
import type { Db } from '../../../store/database.ts';
import type { TenantRef } from '../caller.ts';

/** Throws `api.not_found`, the same for a build of another tenant and for one that never was. */
export async function requireBuild(db: Db, tenant: TenantRef, id: BuildId): Promise<BuildRecord> {
  const build = await findBuild(db, tenant.id, id);
  if (build === undefined) throw noSuchBuild();
  return build;
}

export function noSuchBuild(): BuilderdError {
  return new BuilderdError('api.not_found', 'Cannot find the build: there is none with this id');
}
