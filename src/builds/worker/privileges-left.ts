/** Below are accounts of the host (root first of all). */
const LOWEST_ID = 65_536;

/**
 * What /proc/self/status (proc(5)) shows of privileges that a worker must not have, one phrase
 * each; none for a worker that was started as it should be.
 */
export function privilegesLeft(status: string): string[] {
  const fields = new Map(
    status.split('\n').map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon), line.slice(colon + 1).trim()] as const;
    }),
  );
  const left: string[] = [];
  for (const name of ['Uid', 'Gid']) {
    const ids = (fields.get(name) ?? '').split(/\s+/).map(Number);
    if (ids.length !== 4 || !ids.every((id) => id >= LOWEST_ID)) {
      left.push(`it runs with ${name} ${ids.join(' ')}`);
    }
  }
  if (fields.get('Groups') !== '') left.push('it has supplementary groups');
  for (const name of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) {
    if (!/^0+$/.test(fields.get(name) ?? '')) left.push(`${name} is not empty`);
  }
  if (fields.get('NoNewPrivs') !== '1') left.push('it may gain privileges');
  if (fields.get('Seccomp') !== '2') left.push('no filter holds its system calls');
  return left;
}
