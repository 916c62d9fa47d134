// Plain old syntax: this file must load on any Node, because it explains which one is needed.
const MIN_NODE_MAJOR = 26;

/** True on a Node that can run us; otherwise the user is told which one can. */
export function isNodeGoodEnough(program) {
  if (Number(process.versions.node.split('.')[0]) >= MIN_NODE_MAJOR) return true;
  console.error(
    `${program}: Cannot start on Node ${process.versions.node}: it needs Node ${MIN_NODE_MAJOR} or later\n` +
      'next: Run it through `npm run`, which brings the right Node, or install it from nodejs.org.',
  );
  process.exitCode = 2;
  return false;
}

/**
 * Stripping types costs more than half of the start-up; Node can keep the result. Its default
 * place is the shared /tmp, where anyone could plant code for root: only a directory that is ours
 * alone, in the home that the account database names, is used. Without one, nothing is kept.
 */
export async function keepCompiledCode() {
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
