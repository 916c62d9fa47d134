import { startPrivateContainerd } from '../../contrib/dev/private-containerd.ts';
import { runContainerdSuite } from '../fixtures/containerd-suite.ts';

runContainerdSuite("the host's containerd", (dir) => startPrivateContainerd({ dir }));
