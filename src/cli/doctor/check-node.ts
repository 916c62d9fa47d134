import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { messageOf } from '../../core/errors.ts';
import { addonState } from '../../../native/addon.ts';
import { fail, ok, warn, type Check } from './check.ts';

export function checkNode(version: string): Check[] {
  return [checkNodeVersion(version), checkZstd(), checkAddon()];
}

export function checkNodeVersion(version: string): Check {
  const major = Number(version.split('.')[0]);
  if (major >= 26) return ok('node.version', `Node ${version}`);
  return fail('node.version', `Node ${version} is too old`, 'Run builderd on Node 26 or later.');
}

/** Layers may hold several zstd frames. Node 24 stops after the first and says nothing. */
function checkZstd(): Check {
  const id = 'node.zstd';
  try {
    const frames = Buffer.concat([zstdCompressSync('one'), zstdCompressSync('two')]);
    if (zstdDecompressSync(frames).toString() === 'onetwo') {
      return ok(id, 'the zstd decoder reads several frames');
    }
    return fail(id, 'the zstd decoder loses data after the first frame', 'Use Node 26 or later.');
  } catch (reason) {
    return fail(id, `the zstd decoder fails: ${messageOf(reason)}`, 'Use Node 26 or later.');
  }
}

function checkAddon(): Check {
  const id = 'node.addon';
  const state = addonState();
  if (state.kind === 'loaded') return ok(id, `native addon ${state.file}`);
  return warn(
    id,
    `no native addon: ${state.reason}`,
    'Conversion works without it, only slower; run `npm run build:native` to build it.',
  );
}
