#!/usr/bin/env -S node --max-semi-space-size=4
// Plain old syntax: this file must load on any Node, because it says which one is needed.
// A .ts file would fail there before its first line runs.
import { isNodeGoodEnough } from './launcher.mjs';

// A conversion makes garbage faster than V8's default young space likes to be emptied: without the
// limit it holds some 60 MB more for no gain. The flag only works from the start.
const SMALL_HEAP = '--max-semi-space-size=4';

/** Becomes the same command with the flag: same process, same descriptors, some 30 ms later. */
function restartSmall() {
  const { execPath, execArgv, argv, env } = process;
  process.execve(execPath, [execPath, SMALL_HEAP, ...execArgv, ...argv.slice(1)], env);
}

async function start() {
  if (!isNodeGoodEnough('builderd')) return;
  if (process.argv[2] === 'build' && !process.execArgv.includes(SMALL_HEAP)) restartSmall();
  process.title = 'builderd';
  const { keepStrippedCode } = await import('./stripped-code.mjs');
  keepStrippedCode();
  const { main } = await import('./main.ts');
  await main();
}

await start();
