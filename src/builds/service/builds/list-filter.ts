import { BuilderdError } from '../../../core/errors.ts';
import type { BuildFilter } from '../../../store/builds/list-builds.ts';
import type { ListBuilds } from '../build-service.ts';
import { assertStorable } from './check-spec.ts';

export const MAX_PAGE = 500;
const MAX_LABELS = 16;
const LABEL_KEY = /^[A-Za-z0-9._/-]{1,128}$/;

/** The filter in one canonical form, for the query and for the cursor. Throws `api.invalid`. */
export function parseListFilter({ states = [], labels = {}, limit }: ListBuilds): BuildFilter {
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > MAX_PAGE) {
    throw new BuilderdError('api.invalid', `Cannot list builds: want a limit of 1 to ${MAX_PAGE}`);
  }
  const wanted = Object.entries(labels);
  if (wanted.length > MAX_LABELS || wanted.some(([key]) => !LABEL_KEY.test(key))) {
    throw new BuilderdError(
      'api.invalid',
      `Cannot list builds: want at most ${MAX_LABELS} labels, keys of letters, digits and . _ / -`,
    );
  }
  assertStorable(labels, 'labels');
  return { states: [...new Set(states)].sort(), labels };
}
