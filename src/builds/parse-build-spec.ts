import { Compile } from 'typebox/compile';
import { BuilderdError } from '../core/errors.ts';
import { type BuildSpec, BuildSpecSchema } from './build-spec.ts';

const validator = Compile(BuildSpecSchema);

/**
 * A request or a row's `request`, held to its schema. Throws `fault`; the message names the field
 * and never the value, which may be a password.
 */
export function parseBuildSpec(
  raw: unknown,
  fault: 'api.invalid' | 'internal' = 'api.invalid',
): BuildSpec {
  if (validator.Check(raw)) return raw;
  const [first] = validator.Errors(raw);
  const field = first === undefined || first.instancePath === '' ? 'the body' : first.instancePath;
  throw new BuilderdError(
    fault,
    `Cannot read the build request: ${field} ${first?.message ?? 'does not match'}`,
  );
}
