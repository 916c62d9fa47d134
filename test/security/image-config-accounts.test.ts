import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readAccounts } from '../../src/rootfs/image-config/accounts.ts';
import { plainTree, type TreeSpec } from '../fixtures/plain-tree.ts';

const signal = AbortSignal.timeout(30_000);

/** Reads the accounts of a tree and tells which files were read. */
async function accountsOf(spec: TreeSpec): Promise<{ uids: number[]; reads: number }> {
  const { tree, content } = plainTree(spec);
  let reads = 0;
  const { users } = await readAccounts(
    tree,
    async (inode) => {
      reads += 1;
      const bytes = content.get(inode);
      assert.ok(bytes !== undefined, 'a node without content was read');
      return bytes;
    },
    { signal },
  );
  return { uids: users.map(({ uid }) => uid), reads };
}

const PASSWD = Buffer.from('app:x:7:7::/:\n');

test('A26: a passwd of more than 10 MiB is refused without being read', async () => {
  const etc = { group: { kind: 'file', size: 10 * 1024 * 1024 + 1 } } as const;
  await assert.rejects(accountsOf({ etc }), {
    code: 'image.bad_config',
    message: /group.*10485761/,
  });
});

test('A26: one endless line of 10 MiB is read in bounded time and names nobody', async () => {
  assert.deepEqual(await accountsOf({ etc: { passwd: Buffer.alloc(10 * 1024 * 1024, 'x') } }), {
    uids: [],
    reads: 1,
  });
});

for (const kind of ['fifo', 'char', 'block'] as const) {
  test(`A27: a passwd that is a ${kind} is refused and never opened`, async () => {
    await assert.rejects(accountsOf({ etc: { passwd: { kind } } }), { code: 'image.bad_config' });
  });
}

test('A27: a passwd that is a directory is refused', async () => {
  await assert.rejects(accountsOf({ etc: { passwd: { x: PASSWD } } }), {
    code: 'image.bad_config',
  });
});

test('A27: links to the host, out of the tree, or in a circle find only the tree', async () => {
  // The host has all of these; the tree has none.
  assert.equal((await accountsOf({ etc: { passwd: '/proc/self/root/etc/passwd' } })).reads, 0);
  await assert.rejects(accountsOf({ etc: '/../../etc' }), { message: /loop/ });
  assert.equal((await accountsOf({ etc: { passwd: '../../../../etc/shadow' } })).reads, 0);
  await assert.rejects(accountsOf({ etc: { passwd: 'group', group: 'passwd' } }), {
    code: 'image.bad_config',
    message: /loop/,
  });
});

test('A27: absolute and relative links are followed inside the tree', async () => {
  const moved = { usr: { share: { passwd: PASSWD } } };
  for (const target of ['/usr/share/passwd', '../usr/share/passwd', '../../../usr/share/passwd']) {
    assert.deepEqual((await accountsOf({ ...moved, etc: { passwd: target } })).uids, [7], target);
  }
  const linked = { etc: '/usr/etc', usr: { etc: { passwd: PASSWD } } };
  assert.deepEqual((await accountsOf(linked)).uids, [7]);
});
