import { BuilderdError } from '../../core/errors.ts';

/** `key=value` texts to labels that must all hold. */
export function parseLabelSelector(texts: readonly string[]): Readonly<Record<string, string>> {
  const labels = Object.create(null) as Record<string, string>;
  for (const text of texts) {
    const at = text.indexOf('=');
    const key = text.slice(0, at);
    if (at < 1 || !/^[A-Za-z0-9._/-]{1,128}$/.test(key) || key === '__proto__') {
      throw new BuilderdError('api.invalid', 'Cannot use a label filter: want label=key=value');
    }
    if (Object.hasOwn(labels, key)) {
      throw new BuilderdError('api.invalid', `Cannot use the label filter: it has ${key} twice`);
    }
    labels[key] = text.slice(at + 1);
  }
  return labels;
}
