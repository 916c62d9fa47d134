import { BuilderdError } from '../../core/errors.ts';

/** The number that a stream goes on from; entries and events are counted, so the header is one. */
export function parseLastEventId(header: string | undefined): number | undefined {
  if (header === undefined || header.trim() === '') return undefined;
  if (/^\d{1,15}$/.test(header.trim())) return Number(header.trim());
  throw new BuilderdError('api.invalid', 'Cannot use Last-Event-ID: want the number of an entry');
}
