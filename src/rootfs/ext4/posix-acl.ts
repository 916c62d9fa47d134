/** Tags of <linux/posix_acl.h>. Only the two named kinds carry an id. */
const USER_OBJ = 0x01;
const USER = 0x02;
const GROUP_OBJ = 0x04;
const GROUP = 0x08;
const MASK = 0x10;
const OTHER = 0x20;

const XATTR_VERSION = 2;
const EXT4_VERSION = 1;

/**
 * An access list as the xattr interface carries it (version 2, 8 bytes an entry) in the form that
 * ext4 stores (version 1, entries without a name are 4 bytes). Undefined for anything that the
 * kernel's posix_acl_valid() would refuse: order, repeats, missing entries, unknown tags or bits.
 */
export function toExt4Acl(value: Buffer): Buffer | undefined {
  if (value.length < 4 + 3 * 8 || (value.length - 4) % 8 !== 0) return undefined;
  if (value.readUInt32LE(0) !== XATTR_VERSION) return undefined;
  const out = Buffer.alloc(value.length);
  out.writeUInt32LE(EXT4_VERSION, 0);
  let end = 4;
  let previousTag = 0;
  let previousId = -1;
  let tags = 0;
  for (let at = 4; at < value.length; at += 8) {
    const tag = value.readUInt16LE(at);
    const permissions = value.readUInt16LE(at + 2);
    const id = value.readUInt32LE(at + 4);
    const named = tag === USER || tag === GROUP;
    if (!named && ![USER_OBJ, GROUP_OBJ, MASK, OTHER].includes(tag)) return undefined;
    if (permissions > 7 || tag < previousTag) return undefined;
    if (tag === previousTag && (!named || id <= previousId)) return undefined;
    if (named && id === 0xffffffff) return undefined;
    out.writeUInt16LE(tag, end);
    out.writeUInt16LE(permissions, end + 2);
    if (named) out.writeUInt32LE(id, end + 4);
    end += named ? 8 : 4;
    previousTag = tag;
    previousId = named ? id : -1;
    tags |= tag;
  }
  const required = USER_OBJ | GROUP_OBJ | OTHER | ((tags & (USER | GROUP)) === 0 ? 0 : MASK);
  return (tags & required) === required ? out.subarray(0, end) : undefined;
}
