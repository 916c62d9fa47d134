import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytesOf } from '../../src/core/bytes.ts';
import { parseGroup, parsePasswd } from '../../src/rootfs/image-config/accounts.ts';
import { resolveUser } from '../../src/rootfs/image-config/resolve-user.ts';
import { parseUserSpec } from '../../src/rootfs/image-config/user-spec.ts';

const ACCOUNTS = {
  users: parsePasswd(
    Buffer.from(
      'root:x:0:0:root:/root:/bin/sh\n# a comment\n\nbroken\napp:x:1000:50:App:/srv/app:/bin/sh\n' +
        '77:x:5000:5000::/n:/bin/sh\nbad:x:-1:0::/:\nnohome:x:9:9:::\napp:x:1:1::/second:\n',
    ),
  ),
  groups: parseGroup(
    Buffer.from(
      'root:x:0:\nstaff:x:50:\nwheel:x:10:app,root\naudio:x:29:app\nbig:x:99999999999:app\n88:x:3000:\n',
    ),
  ),
};

const CASES: readonly (readonly [string, Partial<ReturnType<typeof resolveUser>>])[] = [
  ['', { uid: 0, gid: 0, additionalGids: [0, 10], home: bytesOf('/root') }],
  ['root', { uid: 0, gid: 0, additionalGids: [0, 10] }],
  ['app', { uid: 1000, gid: 50, additionalGids: [10, 29, 50], home: bytesOf('/srv/app') }],
  ['1000', { uid: 1000, gid: 50, additionalGids: [10, 29, 50], name: bytesOf('app') }],
  ['0001000', { uid: 1000, gid: 50 }],
  ['app:wheel', { uid: 1000, gid: 10, additionalGids: [10] }],
  ['app:7', { uid: 1000, gid: 7, additionalGids: [7] }],
  ['1000:wheel', { uid: 1000, gid: 10 }],
  ['123:456', { uid: 123, gid: 456, additionalGids: [456] }],
  ['123', { uid: 123, gid: 0, additionalGids: [0] }],
  // A number is never a name, though passwd and group have such names.
  ['77', { uid: 77, gid: 0 }],
  ['0:88', { uid: 0, gid: 88 }],
  ['nohome', { uid: 9, gid: 9, home: bytesOf('/') }],
  ['2147483647:2147483647', { uid: 2147483647, gid: 2147483647 }],
];
for (const [text, want] of CASES) {
  test(`resolveUser() resolves ${JSON.stringify(text)}`, () => {
    const found = resolveUser(parseUserSpec(text), ACCOUNTS);
    assert.deepEqual({ ...found, ...want }, found);
  });
}

test('resolveUser() does not invent a home for a user that passwd does not know', () => {
  const found = resolveUser(parseUserSpec('123'), ACCOUNTS);
  assert.deepEqual(found, { uid: 123, gid: 0, additionalGids: [0] });
});

test('resolveUser() names the file that lacks the user or the group', () => {
  assert.throws(() => resolveUser(parseUserSpec('bad'), ACCOUNTS), {
    code: 'image.bad_config',
    message: /"bad": \/etc\/passwd/,
  });
  assert.throws(() => resolveUser(parseUserSpec('app:big'), ACCOUNTS), {
    code: 'image.bad_config',
    message: /"big": \/etc\/group/,
  });
});

test('parsePasswd() compares names as bytes', () => {
  const users = parsePasswd(Buffer.from('jos\u00e9:x:5:5::/:\n', 'utf8'));
  assert.equal(resolveUser(parseUserSpec('jos\u00e9'), { users, groups: [] }).uid, 5);
});
