import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Io } from '../../src/cli/io.ts';
import { oneLine, printFault, type FaultOptions } from '../../src/cli/print-fault.ts';
import { ERRORS, type ErrorCode } from '../../src/core/error-catalogue.ts';
import { BuilderdError } from '../../src/core/errors.ts';

function print(
  reason: unknown,
  options: Partial<FaultOptions> = {},
): { code: number; stdout: string; stderr: string } {
  const output = { stdout: '', stderr: '' };
  const io: Io = {
    stdout: { write: (text) => (output.stdout += text) },
    stderr: { write: (text) => (output.stderr += text) },
    signal: new AbortController().signal,
    atExit: () => undefined,
  };
  const code = printFault(reason, io, { json: false, debug: false, ...options });
  return { code, ...output };
}

test('printFault() --debug lets no foreign byte of a cause reach the terminal', () => {
  const cause = new SyntaxError('Unexpected token "\x1b]0;owned\x07\u009b2J" in JSON');
  const fault = new BuilderdError('source.invalid', 'Cannot read it: not JSON', { cause });
  const { stderr } = print(fault, { debug: true });
  assert.match(stderr, /owned/);
  assert.doesNotMatch(stderr, /[^\P{C}\n]/u);
});

test('printFault() writes one line with the fault and one with the next step', () => {
  const fault = new BuilderdError('source.not_found', 'Cannot pull x: no such tag');
  assert.deepEqual(print(fault), {
    code: 1,
    stdout: '',
    stderr: `builderd: Cannot pull x: no such tag\nnext: ${ERRORS['source.not_found'].hint}\n`,
  });
});

test('printFault() exits as the catalogue says, for every code', () => {
  for (const [code, entry] of Object.entries(ERRORS)) {
    assert.equal(print(new BuilderdError(code as ErrorCode, 'Cannot x')).code, entry.exit, code);
  }
});

test('printFault() gives programs one JSON object on stdout', () => {
  const fault = new BuilderdError('storage.full', 'Cannot write x: full', {
    details: { freeBytes: 1 },
  });
  const { stdout, stderr } = print(fault, { json: true });
  assert.equal(stderr, '');
  assert.deepEqual(JSON.parse(stdout), {
    error: {
      code: 'storage.full',
      message: 'Cannot write x: full',
      hint: ERRORS['storage.full'].hint,
      fault: 'platform',
      retryable: true,
      details: { freeBytes: 1 },
    },
  });
});

test('printFault() shows a stack only when it is asked to', () => {
  const fault = new TypeError('boom');
  assert.doesNotMatch(print(fault).stderr, /at .*cli-print-fault/);
  assert.match(print(fault).stderr, /^builderd: Cannot run the command: boom\nnext: This is a bug/);
  assert.match(print(fault, { debug: true }).stderr, /at .*cli-print-fault/);
});

test('printFault() tells the fault, not the failed cleanup that followed it', () => {
  const fault = new BuilderdError('archive.bomb', 'Cannot read layer: it is a bomb');
  const both = new SuppressedError(new Error('cleanup failed'), fault);
  assert.match(print(both).stderr, /it is a bomb/);
});

test('oneLine() lets nothing move the cursor or start a line', () => {
  assert.equal(
    oneLine('a\nb\r\u001b[2J\u0000c\u2028d'),
    'a\\x0ab\\x0d\\x1b[2J\\x00c\\xe2\\x80\\xa8d',
  );
  assert.equal(oneLine('plain – ünï'), 'plain – ünï');
});
