import path from 'node:path';

/** The static launcher (native/helper), where build.ts puts it. */
export const LAUNCHER_FILE = path.join(
  import.meta.dirname,
  '../prebuilds',
  `${process.platform}-${process.arch}`,
  'builderd-launch',
);
