import autocannon from 'autocannon';
import { answerCalls } from './answer-calls.ts';

export interface Load {
  readonly url: string;
  readonly token: string;
  readonly seconds: number;
  /** One kept-alive connection for each list; each sends its requests over and over. */
  readonly connections: readonly {
    readonly tenant: string;
    readonly requests: readonly {
      readonly method: string;
      readonly path: string;
      readonly body?: string;
    }[];
  }[];
}

export interface LoadResult {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

answerCalls({
  async run({ url, token, seconds, connections }: Load): Promise<LoadResult> {
    let next = 0;
    const result = await autocannon({
      url,
      connections: connections.length,
      duration: seconds,
      setupClient(client) {
        const connection = connections[next % connections.length];
        next += 1;
        if (connection === undefined) return;
        client.setHeaders({
          authorization: `Bearer ${token}`,
          'x-tenant-id': connection.tenant,
          'content-type': 'application/json',
        });
        client.setRequests(connection.requests);
      },
    });
    const { requests, latency, duration, errors, timeouts, non2xx } = result;
    if (errors + timeouts + non2xx > 0 || requests.total === 0) {
      throw new Error(
        `${requests.total} requests, ${errors} errors, ${timeouts} timeouts, ${non2xx} refused`,
      );
    }
    return {
      perSecond: requests.total / duration,
      p50Ms: latency.p50,
      p99Ms: latency.p99,
    };
  },
});
