#!/usr/bin/env node
// Plain old syntax: this file must load on any Node, because it says which one is needed.
import { isNodeGoodEnough } from './launcher.mjs';

async function start() {
  if (!isNodeGoodEnough('builderctl')) return;
  process.title = 'builderctl';
  const { keepStrippedCode } = await import('./stripped-code.mjs');
  keepStrippedCode();
  const { main } = await import('./ctl/main.ts');
  await main();
}

await start();
