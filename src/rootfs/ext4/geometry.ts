/** ext4 with 4 KiB blocks: one block bitmap covers 8 × 4096 blocks (128 MiB). */
export const BLOCKS_PER_GROUP = 32768;
/** 64-byte group descriptors (feature 64bit). */
export const DESCRIPTOR_SIZE = 64;
export const DESCRIPTORS_PER_BLOCK = 4096 / DESCRIPTOR_SIZE;

/**
 * Descriptor blocks kept at the front of group 0 and of every backup group: used ones plus those
 * that resize2fs and the kernel use to grow a mounted disk. Fixed before the size is known,
 * because data is written first. 128 blocks describe 1 TiB.
 */
export const DESCRIPTOR_AREA_BLOCKS = 128;

/** sparse_super: groups 0, 1 and powers of 3, 5 and 7 hold a superblock and descriptor copy. */
export function hasSuperblockCopy(group: number): boolean {
  if (group <= 1) return true;
  for (const base of [3, 5, 7]) {
    let power = base;
    while (power < group) power *= base;
    if (power === group) return true;
  }
  return false;
}

/** The first group after `group` with such a copy. */
export function nextSuperblockCopy(group: number): number {
  let nearest = Infinity;
  for (const base of [3, 5, 7]) {
    let power = base;
    while (power <= group) power *= base;
    nearest = Math.min(nearest, power);
  }
  return group === 0 ? 1 : nearest;
}

/** Blocks at the start of a group that no data may use: the copy and its descriptor area. */
export function reservedAtGroupStart(group: number): number {
  return hasSuperblockCopy(group) ? 1 + DESCRIPTOR_AREA_BLOCKS : 0;
}
