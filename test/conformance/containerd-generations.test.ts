import { test } from 'node:test';
import {
  GENERATION_SUITES,
  prepareGenerationTree,
  startGeneration,
} from '../../contrib/dev/containerd-generations.ts';
import { runContainerdSuite } from '../fixtures/containerd-suite.ts';

for (const suite of GENERATION_SUITES) {
  const name = `containerd of Debian ${suite}`;
  const tree = await prepareGenerationTree(suite, { signal: AbortSignal.timeout(600_000) });
  if (tree.kind === 'ready') {
    runContainerdSuite(name, (dir) => startGeneration(tree.path, { dir }));
  } else {
    test(name, { skip: tree.reason }, () => undefined);
  }
}
