import assert from 'node:assert/strict';
import { test } from 'node:test';
import { faultOf } from '../../src/api/http/fault-answer.ts';
import { problemOf, retryAfterOf, StatusFault } from '../../src/api/http/problem.ts';
import { ERRORS } from '../../src/core/error-catalogue.ts';
import { BuilderdError } from '../../src/core/errors.ts';

test('problemOf() tells the user of user faults and keeps the words of platform faults', () => {
  const user = problemOf(
    new BuilderdError('quota.exceeded', 'Cannot x: y', { details: { limit: 3 } }),
    'r-1',
  );
  assert.deepEqual(user, {
    type: '/docs#quota.exceeded',
    title: 'Too Many Requests',
    status: 429,
    detail: 'Cannot x: y',
    code: 'quota.exceeded',
    hint: ERRORS['quota.exceeded'].hint,
    fault: 'quota',
    requestId: 'r-1',
    details: { limit: 3 },
  });
  const secret = 'SELECT * FROM tokens; /var/lib/builderd/data';
  const faults = [
    new Error(secret),
    new TypeError(secret),
    new BuilderdError('database.unavailable', secret, { details: { path: secret } }),
    new BuilderdError('host.permission', secret),
    Object.assign(new Error(secret), { code: 'EACCES' }),
    secret,
  ];
  for (const reason of faults) {
    const problem = problemOf(faultOf(reason), 'r-2');
    assert.ok(problem.status >= 500, String(problem.status));
    assert.doesNotMatch(JSON.stringify(problem), /SELECT|\/var\/lib/);
    assert.match(problem.detail, /r-2/);
  }
});

test('every code of the catalogue has a title', () => {
  for (const code of Object.keys(ERRORS) as (keyof typeof ERRORS)[]) {
    assert.notEqual(problemOf(new BuilderdError(code, 'x'), 'r').title, 'Error', code);
  }
});

test('retryAfterOf() says what the fault says, and a default where waiting helps', () => {
  const told = new BuilderdError('quota.exceeded', 'x', { details: { retryAfterSeconds: 7.2 } });
  assert.equal(retryAfterOf(told, 429), 8);
  assert.equal(retryAfterOf(new BuilderdError('api.too_many', 'x'), 429), 5);
  assert.equal(retryAfterOf(new BuilderdError('service.unavailable', 'x'), 503), 2);
  assert.equal(retryAfterOf(new StatusFault(416, 'api.invalid', 'x'), 416), undefined);
});

test('faultOf() names the field that a schema refused and never its value', () => {
  const reason = Object.assign(new Error('x'), {
    validation: [
      {
        instancePath: '/target',
        message: 'must NOT have additional properties',
        params: { additionalProperty: 'rootfs_path' },
      },
    ],
    validationContext: 'body',
  });
  const fault = faultOf(reason);
  assert.equal(fault.code, 'api.invalid');
  assert.equal(
    fault.message,
    'Cannot use the request: body/target must NOT have additional properties: "rootfs_path"',
  );
});
