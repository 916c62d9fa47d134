import type { Static } from 'typebox';
import { Type } from '../core/schema/schema-builders.ts';
import { compileSchema } from '../core/schema/compile-schema.ts';
import { BuilderdError } from '../core/errors.ts';
import type { BuildSpec } from './build-spec.ts';

const secret = Type.Optional(Type.String({ maxLength: 65_536 }));
const BuildSecretsSchema = Type.Object({
  username: secret,
  password: secret,
  token: secret,
  sshKey: secret,
});

/** The login that a request carried for its own source. */
export type BuildSecrets = Static<typeof BuildSecretsSchema>;

const validator = compileSchema(BuildSecretsSchema);

/** A request in two parts: what may be kept in clear, and what is sealed. */
export function separateSecrets(spec: BuildSpec): {
  readonly spec: BuildSpec;
  readonly secrets: BuildSecrets | undefined;
} {
  const { source } = spec;
  if ('image' in source) {
    const { auth, ...image } = source.image;
    const { registry: _registry, ...login } = auth ?? {};
    const secrets = Object.keys(login).length === 0 ? undefined : login;
    return { spec: { ...spec, source: { image } }, secrets };
  }
  if ('git' in source) {
    const { auth, ...git } = source.git;
    return { spec: { ...spec, source: { git } }, secrets: auth };
  }
  return { spec, secrets: undefined };
}

/** What was sealed, opened again. Throws `internal`; the message holds nothing of the text. */
export function parseBuildSecrets(text: string): BuildSecrets {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    // The cause of a JSON fault quotes the text.
    throw new BuilderdError('internal', 'Cannot read the secrets of the build: they are no JSON');
  }
  if (validator.accepts(parsed)) return parsed;
  throw new BuilderdError('internal', 'Cannot read the secrets of the build: fields are missing');
}

/** Texts that a log must not show. A user name is no secret. */
export function secretTexts({ password, token, sshKey }: BuildSecrets): readonly string[] {
  return [password, token, sshKey].filter(
    (text): text is string => text !== undefined && text !== '',
  );
}
