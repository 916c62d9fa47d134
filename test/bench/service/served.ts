import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { RunningService, type ServiceOptions } from '../../fixtures/running-service.ts';

/** A service whose log goes to a file, as journald would take it: reading it costs us nothing. */
export interface Served extends AsyncDisposable {
  readonly service: RunningService;
  readonly url: string;
  readonly pid: number;
}

const START_LIMIT_MS = 60_000;

export async function serveApi(dir: string, options: ServiceOptions): Promise<Served> {
  const file = join(dir, `service-${process.hrtime.bigint()}.log`);
  const stdout = openSync(file, 'w');
  const service = await RunningService.launch({
    ...options,
    args: ['--role', 'api'],
    stdout,
  });
  closeSync(stdout);
  try {
    const deadline = performance.now() + START_LIMIT_MS;
    for (;;) {
      const text = await readFile(file, 'utf8');
      const url = /"address":"(http:[^"]+)".*"msg":"Serving the API"/.exec(text)?.[1];
      const pid = /"pid":(\d+),"msg":"Started a role"/.exec(text)?.[1];
      if (url !== undefined && pid !== undefined) {
        const owned = { service, url, pid: Number(pid) };
        return { ...owned, [Symbol.asyncDispose]: () => service[Symbol.asyncDispose]() };
      }
      if (performance.now() > deadline) {
        throw new Error(`The service did not start:\n${text}\n${service.stderr}`);
      }
      await sleep(20);
    }
  } catch (reason) {
    await service[Symbol.asyncDispose]();
    throw reason;
  }
}
