/** One thing in an initramfs; parents must come before what they hold. */
export type CpioEntry =
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'file'; readonly path: string; readonly mode: number; readonly data: Buffer }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string };

const TYPE_AND_MODE = { directory: 0o040755, symlink: 0o120777, file: 0o100000 } as const;

/** The "newc" format that the kernel unpacks (Documentation/driver-api/early-userspace). */
export function formatCpio(entries: readonly CpioEntry[]): Buffer {
  const parts = entries.map((entry, index) =>
    formatEntry(entry.path, modeOf(entry), dataOf(entry), index + 1),
  );
  return Buffer.concat([...parts, formatEntry('TRAILER!!!', 0, Buffer.alloc(0), 0)]);
}

function modeOf(entry: CpioEntry): number {
  return TYPE_AND_MODE[entry.kind] | (entry.kind === 'file' ? entry.mode : 0);
}

function dataOf(entry: CpioEntry): Buffer {
  if (entry.kind === 'file') return entry.data;
  return Buffer.from(entry.kind === 'symlink' ? entry.target : '');
}

function formatEntry(path: string, mode: number, data: Buffer, inode: number): Buffer {
  const name = Buffer.from(`${path}\0`);
  const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length, 0];
  const header = `070701${fields.map((each) => each.toString(16).padStart(8, '0')).join('')}`;
  return Buffer.concat([padded(Buffer.concat([Buffer.from(header), name])), padded(data)]);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}
