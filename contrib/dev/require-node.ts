// Imported first by every program here: on another Node it ends with one sentence. (A Node that
// cannot even read TypeScript never gets this far; the npm scripts work from any Node.)
const WANTED = 26;

if (Number(process.versions.node.split('.')[0]) < WANTED) {
  console.error(
    `builderd: this needs Node ${WANTED}, and this is ${process.version}; start it with \`npm run\`, which brings the right one.`,
  );
  process.exit(3);
}
