/**
 * CRC-32C as ext4 uses it: the caller chains a running value that starts at 0xffffffff and is
 * never inverted at the end. Node has no CRC-32C of its own; eight tables keep the cost of a
 * large image's metadata in the tens of milliseconds.
 */
const POLYNOMIAL = 0x82f63b78;
const TABLES = makeTables();
/** Entry k moves a running value over 2^k zero bytes with four look-ups. */
const ZERO_TABLES = makeZeroTables(13);

export const CRC_START = 0xffffffff;

export function crc32c(crc: number, data: Uint8Array, start = 0, end = data.length): number {
  let value = crc | 0;
  let at = start;
  for (; at + 8 <= end; at += 8) {
    const low =
      value ^
      (byte(data, at) |
        (byte(data, at + 1) << 8) |
        (byte(data, at + 2) << 16) |
        (byte(data, at + 3) << 24));
    value =
      entry(TABLES, 1792 + (low & 255)) ^
      entry(TABLES, 1536 + ((low >>> 8) & 255)) ^
      entry(TABLES, 1280 + ((low >>> 16) & 255)) ^
      entry(TABLES, 1024 + (low >>> 24)) ^
      entry(TABLES, 768 + byte(data, at + 4)) ^
      entry(TABLES, 512 + byte(data, at + 5)) ^
      entry(TABLES, 256 + byte(data, at + 6)) ^
      entry(TABLES, byte(data, at + 7));
  }
  for (; at < end; at += 1) {
    value = entry(TABLES, (value ^ byte(data, at)) & 255) ^ (value >>> 8);
  }
  return value >>> 0;
}

/** The running value after one little-endian 32-bit number. */
export function crc32cOfNumber(crc: number, number: number): number {
  const low = crc ^ number;
  return (
    (entry(TABLES, 768 + (low & 255)) ^
      entry(TABLES, 512 + ((low >>> 8) & 255)) ^
      entry(TABLES, 256 + ((low >>> 16) & 255)) ^
      entry(TABLES, low >>> 24)) >>>
    0
  );
}

/** The running value after `count` zero bytes (0 … 8191): most metadata blocks end in zeros. */
export function crc32cOfZeros(crc: number, count: number): number {
  let value = crc;
  for (let power = 0, left = count; left > 0; power += 1, left >>>= 1) {
    if ((left & 1) === 0) continue;
    const table = ZERO_TABLES[power];
    if (table === undefined) throw new RangeError(`more than 8191 zero bytes: ${count}`);
    value = overZeros(table, value);
  }
  return value >>> 0;
}

function overZeros(table: Int32Array, crc: number): number {
  return (
    entry(table, crc & 255) ^
    entry(table, 256 + ((crc >>> 8) & 255)) ^
    entry(table, 512 + ((crc >>> 16) & 255)) ^
    entry(table, 768 + (crc >>> 24))
  );
}

function byte(data: Uint8Array, at: number): number {
  return data[at] ?? 0;
}

function entry(table: Int32Array, at: number): number {
  return table[at] ?? 0;
}

function makeTables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let first = 0; first < 256; first += 1) {
    let value = first;
    for (let bit = 0; bit < 8; bit += 1) {
      value = (value & 1) === 0 ? value >>> 1 : (value >>> 1) ^ POLYNOMIAL;
    }
    tables[first] = value;
  }
  for (let at = 256; at < tables.length; at += 1) {
    const previous = entry(tables, at - 256);
    tables[at] = entry(tables, previous & 255) ^ (previous >>> 8);
  }
  return tables;
}

function makeZeroTables(powers: number): Int32Array[] {
  const tables: Int32Array[] = [];
  for (let power = 0; power < powers; power += 1) {
    const previous = tables[power - 1];
    const table = new Int32Array(1024);
    for (let at = 0; at < 1024; at += 1) {
      const crc = (at & 255) << (8 * (at >>> 8));
      table[at] =
        previous === undefined
          ? entry(TABLES, crc & 255) ^ (crc >>> 8)
          : overZeros(previous, overZeros(previous, crc));
    }
    tables.push(table);
  }
  return tables;
}
