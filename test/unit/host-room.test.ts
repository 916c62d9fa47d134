import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  isFull,
  parseAvailableMemory,
  freeOf,
  roomOf,
  scarcest,
} from '../../src/builds/executor/host-room.ts';

const GIB = 1024 ** 3;
const state = (memory: number, free: number, total: number) => ({
  availableMemoryBytes: memory * GIB,
  disk: { freeBytes: free * GIB, totalBytes: total * GIB },
});

test('what running builds were promised is not given twice', () => {
  const room = roomOf(state(8, 50, 100), { builds: 2, memoryBytes: 4 * GIB, diskBytes: 20 * GIB });
  assert.deepEqual(room, { freeMemoryBytes: 3.75 * GIB, freeDiskBytes: 25 * GIB });
});

test('room is never negative', () => {
  const room = roomOf(state(1, 1, 100), { builds: 1, memoryBytes: 4 * GIB, diskBytes: GIB });
  assert.deepEqual(room, { freeMemoryBytes: 0, freeDiskBytes: 0 });
});

test('an idle host takes any one build, unless its own reserve is gone', () => {
  const idle = { builds: 0, memoryBytes: 0, diskBytes: 0 };
  assert.equal(roomOf(state(1, 50, 100), idle).freeMemoryBytes, Number.MAX_SAFE_INTEGER);
  assert.deepEqual(roomOf(state(0.2, 4, 100), idle), { freeMemoryBytes: 0, freeDiskBytes: 0 });
});

test('parseAvailableMemory() reads MemAvailable and takes its absence for nothing', () => {
  assert.equal(parseAvailableMemory('MemTotal:  10 kB\nMemAvailable:   2048 kB\n'), 2 * 1024 ** 2);
  assert.equal(parseAvailableMemory('MemTotal: 10 kB\n'), 0);
});

test('scarcest() is the disk that builds fill first, isFull() one with nothing beyond its reserve', () => {
  const large = { freeBytes: 60 * GIB, totalBytes: 1000 * GIB };
  const small = { freeBytes: 9 * GIB, totalBytes: 10 * GIB };
  const spent = { freeBytes: 4 * GIB, totalBytes: 1000 * GIB };
  assert.equal(scarcest(large, small), small);
  assert.equal(scarcest(small, spent, large), spent);
  assert.deepEqual([large, small, spent].map(isFull), [false, false, true]);
});

test('freeOf() tells what is there, also of a host that takes any one build', () => {
  const idle = { builds: 0, memoryBytes: 0, diskBytes: 0 };
  assert.deepEqual(freeOf(state(8, 50, 100), idle), {
    freeMemoryBytes: 7.75 * GIB,
    freeDiskBytes: 45 * GIB,
  });
  assert.deepEqual(freeOf(state(0.2, 4, 100), idle), { freeMemoryBytes: 0, freeDiskBytes: 0 });
});
