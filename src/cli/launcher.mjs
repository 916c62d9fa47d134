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
