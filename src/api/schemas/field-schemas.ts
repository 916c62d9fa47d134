import type { TArray, TInteger, TRecord, TString } from 'typebox';
import { Type } from '../../core/schema/schema-builders.ts';

export const strict = { additionalProperties: false } as const;

/** RFC 3339 in UTC, with milliseconds. */
export const Time = (description: string): TString =>
  Type.String({ description, examples: ['2026-11-23T12:00:00.000Z'] });

export function presentTime(ms: number): string {
  if (!Number.isSafeInteger(ms)) return new Date(ms).toISOString();
  const day = Math.floor(ms / DAY_MS);
  if (day !== latest.day) {
    latest = { day, text: new Date(day * DAY_MS).toISOString().slice(0, -'00:00:00.000Z'.length) };
  }
  const left = ms - day * DAY_MS;
  const hours = padded(Math.floor(left / 3_600_000));
  const minutes = padded(Math.floor(left / 60_000) % 60);
  const seconds = padded(Math.floor(left / 1000) % 60);
  return `${latest.text}${hours}:${minutes}:${seconds}.${left % 1000 < 100 ? '0' : ''}${padded(left % 1000)}Z`;
}

const DAY_MS = 86_400_000;
/** A calendar is what costs; the times of an answer mostly share their day. */
let latest = { day: Number.NaN, text: '' };

function padded(count: number): string {
  return count < 10 ? `0${count}` : String(count);
}

export const Texts = (description: string): TArray<TString> =>
  Type.Array(Type.String(), { description });
export const TextMap = (description: string): TRecord<'^.*$', TString> =>
  Type.Record(Type.String(), Type.String(), { description });
export const Count = (description: string): TInteger => Type.Integer({ minimum: 0, description });

/** `{ [key]: time }` when the time is known, and nothing when it is not. */
export function presentOptionalTime<K extends string>(
  key: K,
  ms: number | undefined,
): { readonly [P in K]?: string } {
  return ms === undefined ? {} : ({ [key]: presentTime(ms) } as { readonly [P in K]?: string });
}

export const BuildParams = Type.Object({
  id: Type.String({ maxLength: 100, description: 'Id of the build.' }),
});

export const ProblemSchema = Type.Object(
  {
    type: Type.String({ description: 'Where the code is explained.' }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String({ description: 'For people; its wording may change.' }),
    code: Type.String({
      description: 'The contract: programs decide by it.',
      examples: ['quota.exceeded'],
    }),
    hint: Type.String({ description: 'The next thing to do.' }),
    fault: Type.Enum(['user', 'quota', 'platform']),
    requestId: Type.String({ description: 'Also in X-Request-ID and in the log of the service.' }),
    details: Type.Optional(
      Type.Record(Type.String(), Type.Union([Type.String(), Type.Number(), Type.Boolean()])),
    ),
  },
  { $id: 'Problem', description: 'RFC 9457 problem details.' },
);

/** Documents the faults; the error handler writes them itself. */
export const faults = {
  default: {
    description: 'A problem.',
    content: { 'application/problem+json': { schema: { $ref: 'Problem#' } } },
  },
} as const;
