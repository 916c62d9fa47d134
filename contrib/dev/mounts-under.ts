import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { BuilderdError } from '../../src/core/errors.ts';

/** Unmounts everything mounted below `dir` in our mount namespace; throws while something stays. */
export async function removeMountsUnder(dir: string): Promise<void> {
  for (let round = 0; round < 3; round++) {
    const points = await mountPointsUnder(dir);
    if (points.length === 0) return;
    for (const point of points.reverse()) await umount(point);
  }
  const left = await mountPointsUnder(dir);
  if (left.length > 0) {
    throw new BuilderdError('internal', `Cannot unmount ${left.join(', ')}: still mounted`);
  }
}

/** In the order they were mounted. */
export async function mountPointsUnder(dir: string): Promise<string[]> {
  const lines = (await readFile('/proc/self/mountinfo', 'latin1')).split('\n');
  return lines
    .map((line) => unescape(line.split(' ')[4] ?? ''))
    .filter((point) => point.startsWith(`${dir}/`));
}

/** proc(5): space, tab, newline and backslash are written as octal. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_all, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

/** Its exit code is not looked at: the caller reads the mount table again. */
async function umount(point: string): Promise<void> {
  // Lazy: a killed container's processes may still hold it for a moment.
  await new Promise<void>((done, fail) => {
    spawn('umount', ['--lazy', '--', point], { stdio: 'ignore' })
      .once('close', () => done())
      .once('error', fail);
  });
}
