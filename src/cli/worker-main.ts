import { loadAddon } from '../../native/addon.ts';
import { WARM_ARGUMENT } from '../builds/worker/warm-argument.ts';
import { runWorker } from '../builds/worker/run-worker.ts';
import { systemClock } from '../core/clock.ts';

// Started by the launcher (native/helper), never by a person; there is no command for it.
process.title = 'builderd';
if (process.argv[2] !== WARM_ARGUMENT)
  await runWorker({ addon: loadAddon(), clock: systemClock, nowMs: () => performance.now() });
// Nothing may keep a worker alive that has answered.
process.exit(0);
