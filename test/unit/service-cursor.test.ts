import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { canonicalJson } from '../../src/builds/service/builds/canonical-json.ts';
import { openCursor, signCursor } from '../../src/builds/service/builds/cursor.ts';
import { isBuilderdError } from '../../src/core/errors.ts';
import { parseBuildId, parseTenantId } from '../../src/core/ids.ts';

const KEY = Buffer.alloc(32, 7);
const ids = fc.uuid({ version: 7 }).map(parseBuildId);
const tenants = fc.uuid({ version: 7 }).map(parseTenantId);
const filters = fc.record({
  states: fc.uniqueArray(fc.constantFrom('pending', 'failed', 'completed')),
  labels: fc.dictionary(fc.string({ maxLength: 5 }), fc.string({ maxLength: 5 }), { maxKeys: 3 }),
});

const refused = (reason: unknown): boolean => isBuilderdError(reason, 'api.invalid');

test('openCursor() gives the build that signCursor() was given', () => {
  fc.assert(
    fc.property(ids, tenants, filters, (id, tenantId, filter) => {
      const cursor = signCursor(KEY, { tenantId, filter }, id);
      assert.match(cursor, /^[\w-]{43}$/);
      assert.equal(openCursor(KEY, { tenantId, filter }, cursor), id);
    }),
  );
});

test('openCursor() refuses cursors of another tenant, filter or key', () => {
  fc.assert(
    fc.property(
      ids,
      tenants,
      tenants,
      filters,
      filters,
      (id, tenantId, otherTenant, filter, other) => {
        const cursor = signCursor(KEY, { tenantId, filter }, id);
        if (otherTenant !== tenantId) {
          assert.throws(() => openCursor(KEY, { tenantId: otherTenant, filter }, cursor), refused);
        }
        if (canonicalJson(other) !== canonicalJson(filter)) {
          assert.throws(() => openCursor(KEY, { tenantId, filter: other }, cursor), refused);
        }
        assert.throws(() => openCursor(Buffer.alloc(32, 8), { tenantId, filter }, cursor), refused);
      },
    ),
  );
});

test('openCursor() refuses whatever was changed or made up', () => {
  const scope = { tenantId: parseTenantId('01890a5d-ac96-774b-bcce-b302099a8057'), filter: {} };
  const id = parseBuildId('01890a5d-ac96-774b-bcce-b302099a8058');
  const cursor = signCursor(KEY, scope, id);
  fc.assert(
    fc.property(fc.nat(31), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const bytes = Buffer.from(cursor, 'base64url');
      bytes[at] = (bytes[at] ?? 0) ^ change;
      assert.throws(() => openCursor(KEY, scope, bytes.toString('base64url')), refused);
    }),
  );
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.base64String()), (text) => {
      assert.throws(() => openCursor(KEY, scope, text), refused);
    }),
  );
});

test('canonicalJson() does not depend on the order of fields', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 3 }), (value) => {
      const turned: unknown = JSON.parse(JSON.stringify(value), (_key, inner: unknown) =>
        typeof inner === 'object' && inner !== null && !Array.isArray(inner)
          ? Object.fromEntries(Object.entries(inner).reverse())
          : inner,
      );
      assert.equal(canonicalJson(turned), canonicalJson(value));
      assert.deepEqual(JSON.parse(canonicalJson(value)), JSON.parse(JSON.stringify(value)));
    }),
  );
});
