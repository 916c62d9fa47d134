import { compileSchema } from '../core/schema/compile-schema.ts';
import { BuilderdError } from '../core/errors.ts';
import { type BuildSpec, BuildSpecSchema } from './build-spec.ts';

const validator = compileSchema(BuildSpecSchema);

/**
 * A request or a row's `request`, held to its schema. Throws `fault`; the message names the field
 * and never the value, which may be a password.
 */
export function parseBuildSpec(
  raw: unknown,
  fault: 'api.invalid' | 'internal' = 'api.invalid',
): BuildSpec {
  if (validator.accepts(raw)) return raw;
  const first = validator.findFault(raw);
  const field = first === undefined || first.path === '' ? 'the body' : first.path;
  throw new BuilderdError(
    fault,
    `Cannot read the build request: ${field} ${first?.message ?? 'does not match'}`,
  );
}
