import { formatBytes } from '../../core/units.ts';
import { storageByTenant, type TenantStorage } from '../../store/artifacts/storage-usage.ts';
import type { Io } from '../io.ts';
import { oneLine } from '../print-fault.ts';
import { tenantDefaults } from '../serve/tenant-defaults.ts';
import { openStorage } from './open-storage.ts';

export interface DfOptions {
  readonly config?: string;
  readonly json?: true;
}

/** `builderd df`: who keeps how much, and what the disk has left. Changes nothing. */
export async function runDf(options: DfOptions, io: Io): Promise<void> {
  await using storage = await openStorage(
    { file: options.config, readOnly: true, decrypts: async () => false },
    io,
  );
  const { config, database, store } = storage;
  const { settings } = config;
  const tenants = await storageByTenant(database, { defaults: tenantDefaults(config) });
  const disk =
    store.backend === 'local'
      ? { path: settings.ROOTFS_OUTPUT_DIR, ...(await store.space({ signal: io.signal })) }
      : undefined;
  if (options.json === true) {
    io.stdout.write(`${JSON.stringify({ backend: store.backend, disk, tenants })}\n`);
    return;
  }
  io.stdout.write(renderTable(tenants.map(rowOf)));
  const stored = tenants.reduce((sum, each) => sum + each.storedBytes, 0);
  const condemned = tenants.reduce((sum, each) => sum + each.condemnedBytes, 0);
  io.stdout.write(
    `\n${formatBytes(stored)} stored, ${formatBytes(condemned)} more until gc removes them\n`,
  );
  if (disk === undefined) return;
  io.stdout.write(
    `${oneLine(disk.path)}: ${formatBytes(disk.freeBytes)} free of ${formatBytes(disk.totalBytes)}\n`,
  );
}

const HEAD = ['TENANT', 'BLOBS', 'SIZE', 'STORED', 'GOING', 'LIMIT', 'USED', ''];

function rowOf(each: TenantStorage): readonly string[] {
  const used =
    each.limitBytes === 0 ? '-' : `${Math.round((each.sizeBytes / each.limitBytes) * 100)} %`;
  const notes = [
    each.encryptedBlobs > 0 ? `${each.encryptedBlobs} encrypted` : '',
    each.damagedBlobs > 0 ? `${each.damagedBlobs} damaged` : '',
  ];
  return [
    each.tenant,
    String(each.blobs),
    formatBytes(each.sizeBytes),
    formatBytes(each.storedBytes),
    formatBytes(each.condemnedBytes),
    formatBytes(each.limitBytes),
    used,
    notes.filter((note) => note !== '').join(', '),
  ];
}

function renderTable(rows: readonly (readonly string[])[]): string {
  const all = [HEAD, ...rows];
  const widths = HEAD.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
  return all
    .map((row) => {
      const cells = row.map((cell, column) => {
        const width = widths[column] ?? 0;
        return column === 0 || column === HEAD.length - 1
          ? cell.padEnd(width)
          : cell.padStart(width);
      });
      return `${cells.join('  ').trimEnd()}\n`;
    })
    .join('');
}
