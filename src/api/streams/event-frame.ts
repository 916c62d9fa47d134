/** One server-sent event. `data` is JSON, which holds no line break. */
export function eventFrame(event: string, data: unknown, id?: number): string {
  const idLine = id === undefined ? '' : `id: ${id}\n`;
  return `${idLine}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

/** Keeps the connection alive through proxies; clients ignore it. */
export const HEARTBEAT = ': still here\n\n';
/** Milliseconds after which a client that was cut off comes back. */
export const RETRY_FRAME = 'retry: 2000\n\n';
