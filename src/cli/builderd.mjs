#!/usr/bin/env -S node --max-semi-space-size=4
// Plain old syntax: this file must load on any Node, because it explains which one is needed.
// A .ts file would fail there before its first line runs.
const MIN_NODE_MAJOR = 26;

// A conversion makes garbage faster than V8's default young space likes to be emptied: without the
// limit it holds some 60 MB more for no gain. The flag only works from the start.
const SMALL_HEAP = '--max-semi-space-size=4';

/** Becomes the same command with the flag: same process, same descriptors, some 30 ms later. */
function restartSmall() {
  const { execPath, execArgv, argv, env } = process;
  process.execve(execPath, [execPath, SMALL_HEAP, ...execArgv, ...argv.slice(1)], env);
}

async function start() {
  if (Number(process.versions.node.split('.')[0]) < MIN_NODE_MAJOR) {
    console.error(
      `builderd: Cannot start on Node ${process.versions.node}: it needs Node ${MIN_NODE_MAJOR} or later\n` +
        'next: Run it through `npm run`, which brings the right Node, or install it from nodejs.org.',
    );
    process.exitCode = 2;
    return;
  }
  if (process.argv[2] === 'build' && !process.execArgv.includes(SMALL_HEAP)) restartSmall();
  process.title = 'builderd';
  await keepCompiledCode();
  const { main } = await import('./main.ts');
  await main();
}

/**
 * Stripping types costs more than half of the start-up; Node can keep the result. Its default
 * place is the shared /tmp, where anyone could plant code for root: only a directory that is ours
 * alone, in the home that the account database names, is used. Without one, nothing is kept.
 */
async function keepCompiledCode() {
  const { enableCompileCache } = await import('node:module');
  const { lstatSync, mkdirSync } = await import('node:fs');
  const { userInfo } = await import('node:os');
  try {
    const { homedir, uid } = userInfo();
    const directory = `${homedir}/.cache/builderd/code`;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const stat = lstatSync(directory);
    if (stat.isDirectory() && stat.uid === uid && (stat.mode & 0o022) === 0) {
      enableCompileCache(directory);
    }
  } catch {
    // A read-only home, or an account without one: slower by some 50 ms and otherwise the same.
    return;
  }
}

await start();
