import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isBuilderdError } from '../../src/core/errors.ts';
import { parseSource } from '../../src/sources/parse-source.ts';

// security.md A44: the text of a reference.
const REFUSED: readonly (readonly [string, string])[] = [
  ['nothing', ''],
  ['a transport alone', 'docker://'],
  ['an option', '-flag'],
  ['an option after the transport', 'docker://--help'],
  ['a space', 'debian 12'],
  ['a line end', 'debian\n'],
  ['a NUL in a path', 'oci:a\0b'],
  ['an escape sequence', 'oci:\u001b[2J'],
  ['10 kB', 'a'.repeat(10_240)],
  ['a homoglyph host', 'dоcker.io/library/debian'],
  ['user information', 'user:secret@registry.example/app'],
  ['user information in a URL', 'docker://user:secret@registry.example/app'],
  ['another transport', 'containers-storage://x'],
  ['an empty path', 'oci:'],
  ['an empty tag', 'oci:dir:'],
  ['an option as a tag', 'oci:dir:--x'],
  ['a path of 5,000 bytes', `oci:${'a/'.repeat(2500)}`],
  ['a shell expansion', '$(id)'],
];
for (const [name, text] of REFUSED) {
  test(`parseSource() refuses ${name}`, () => {
    assert.throws(
      () => parseSource(text),
      (reason) => {
        assert.ok(isBuilderdError(reason, 'usage.invalid'), String(reason));
        assert.doesNotMatch(reason.message, /secret/);
        // oxlint-disable-next-line no-control-regex -- that there is none is what is tested
        assert.doesNotMatch(reason.message, /[\u0000-\u001f]/);
        assert.ok(reason.message.length < 400);
        return true;
      },
    );
  });
}

test('parseSource() answers any text with a source or a typed error', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (text) => {
      try {
        const source = parseSource(text);
        if (source.kind === 'registry')
          assert.match(source.reference, /^[A-Za-z0-9[][\x21-\x7e]*$/);
        else assert.doesNotMatch(source.path, /\0/);
      } catch (reason) {
        assert.ok(isBuilderdError(reason), String(reason));
      }
    }),
  );
});
