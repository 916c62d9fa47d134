import { type ByteString, escapeBytes } from '../core/bytes.ts';

/** Every way in which an image is odd or in which a result differs from what a layer literally says. */
export const FIDELITY_NOTES = {
  duplicate_path: 'A layer names a path twice; the last entry wins',
  implied_directory:
    "A directory has no entry of its own; it took the lower layer's metadata, or 0755 root:root",
  symlinked_parent_replaced:
    'A layer puts entries below a name that is a symlink in a lower layer; the name becomes a directory, as on overlayfs',
  whiteout_with_same_name:
    'A layer holds both a name and its whiteout; the whiteout hides lower layers only',
  whiteout_replaced_by_directory:
    'A whiteout is followed by a directory of the same name; the lower directory shows through, as on overlayfs',
  whiteout_as_parent:
    'An entry lies below a name that its own layer whites out; a new directory was made',
  whiteout_device: 'A character device 0:0 acts as a whiteout, as on overlayfs',
  reserved_whiteout_dropped: 'An entry named .wh..wh.* has no meaning for us and was dropped',
  root_opaque_ignored: 'An opaque marker at the root of a layer has no effect, as on overlayfs',
  overlay_xattr_dropped: 'An xattr that belongs to overlayfs itself was dropped',
  device_dropped: 'A device node was dropped by the chosen policy',
  time_clamped: 'A time outside what the format can hold was moved to the nearest one it can',
  time_clamped_to_epoch: 'A time after SOURCE_DATE_EPOCH was moved to it',
  link_below: 'A hard link names a file of a lower layer',
  second_read: 'A layer was read twice, because a visible hard link needed data that was hidden',
  ext4_time_clamped:
    'A time between 2310 and 2378, which e2fsck takes for damage, was moved before it in the ext4 disk',
  compression_differs: 'A layer is packed otherwise than its media type says',
  trailing_bytes:
    "Bytes follow the end of a layer's archive; they are covered by its digest and have no meaning",
  mount_point_added: 'A mount point was added for the guest',
  guest_file_added: 'A file was added for the guest',
  excluded: 'The request leaves it out, with all below it',
} as const;

export type FidelityCode = keyof typeof FIDELITY_NOTES;

const MAX_EXAMPLES = 10;
/** What somebody asked for, they want to check. */
const MAX_EXCLUDED = 100;

interface Note {
  count: number;
  readonly examples: string[];
}

export interface FidelityReport {
  readonly notes: readonly {
    readonly code: FidelityCode;
    readonly meaning: string;
    readonly count: number;
    /** The first few, escaped. */
    readonly examples: readonly string[];
  }[];
}

/** Counts oddities while layers are read; keeps the first few paths of each kind. */
export class FidelityLog {
  readonly #notes = new Map<FidelityCode, Note>();

  note(code: FidelityCode, path: ByteString | (() => ByteString), times = 1): void {
    let note = this.#notes.get(code);
    if (note === undefined) {
      note = { count: 0, examples: [] };
      this.#notes.set(code, note);
    }
    note.count += times;
    if (note.examples.length >= (code === 'excluded' ? MAX_EXCLUDED : MAX_EXAMPLES)) return;
    note.examples.push(escapeBytes(typeof path === 'string' ? path : path()));
  }

  count(code: FidelityCode): number {
    return this.#notes.get(code)?.count ?? 0;
  }

  report(): FidelityReport {
    const codes = [...this.#notes.keys()].sort();
    return {
      notes: codes.map((code) => {
        const note = this.#notes.get(code) ?? { count: 0, examples: [] };
        return { code, meaning: FIDELITY_NOTES[code], count: note.count, examples: note.examples };
      }),
    };
  }
}
