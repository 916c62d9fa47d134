import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { Script } from 'node:vm';
import { readSources } from '../../contrib/dev/import-graph.ts';
import { ERRORS } from '../../src/core/error-catalogue.ts';
import { startTestApi } from '../fixtures/api.ts';

const ROOT = resolve(import.meta.dirname, '../..');

interface Operation {
  readonly operationId?: string;
  readonly summary?: string;
  readonly tags?: readonly string[];
  readonly security?: readonly unknown[];
  readonly parameters?: readonly {
    readonly name: string;
    readonly in: string;
    readonly schema?: object;
    readonly required?: boolean;
  }[];
  readonly requestBody?: { readonly content: Record<string, { schema: object }> };
  readonly responses: Record<
    string,
    { readonly description?: string; readonly content?: Record<string, object> }
  >;
}
interface Document {
  readonly openapi: string;
  readonly info: { readonly title: string; readonly version: string };
  readonly tags: readonly { readonly name: string }[];
  readonly paths: Record<string, Record<string, Operation>>;
  readonly components: {
    readonly schemas: Record<string, object>;
    readonly securitySchemes: Record<string, object>;
  };
}

async function readDocument(): Promise<Document> {
  await using api = await startTestApi();
  const answer = await api.fetch('/v1/openapi.json');
  assert.equal(answer.status, 200);
  return (await answer.json()) as Document;
}

function* nodesOf(value: unknown): Generator<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) return;
  if (!Array.isArray(value)) yield value as Record<string, unknown>;
  for (const member of Object.values(value)) yield* nodesOf(member);
}

test('the document is OpenAPI 3.1: operations are named once, parameters and references resolve', async () => {
  const document = await readDocument();
  assert.equal(document.openapi, '3.1.0');
  assert.equal(document.info.version, '0.0.0-test');
  const ids = new Set<string>();
  const tags = new Set(document.tags.map(({ name }) => name));
  for (const [path, methods] of Object.entries(document.paths)) {
    assert.match(path, /^\//);
    for (const [method, operation] of Object.entries(methods)) {
      const at = `${method} ${path}`;
      assert.match(method, /^(?:get|put|post|delete|head|patch)$/, at);
      const id = operation.operationId ?? '';
      assert.ok(id !== '' && !ids.has(id), `${at}: ${id}`);
      ids.add(id);
      assert.ok((operation.summary ?? '').length > 5, at);
      assert.ok(
        operation.tags?.every((tag) => tags.has(tag)),
        at,
      );
      const wanted = Array.from(path.matchAll(/\{(\w+)\}/g), (match) => match[1] ?? '');
      const given = operation.parameters?.filter((each) => each.in === 'path') ?? [];
      assert.deepEqual(given.map(({ name }) => name).toSorted(), wanted.toSorted(), at);
      assert.ok(
        given.every(({ required }) => required === true),
        at,
      );
      assert.ok(
        (operation.parameters ?? []).every(({ schema }) => schema !== undefined),
        at,
      );
      for (const [status, answer] of Object.entries(operation.responses)) {
        assert.match(status, /^(?:[1-5]\d\d|default)$/, at);
        assert.ok(
          answer.description !== undefined && answer.description !== 'Default Response',
          `${at} ${status}`,
        );
      }
      const isOpen = path.startsWith('/health');
      assert.equal(operation.security?.length === 0, isOpen, at);
      if (!isOpen)
        assert.ok(operation.responses['default']?.content?.['application/problem+json'], at);
    }
  }
  for (const node of nodesOf(document)) {
    if (typeof node['$ref'] !== 'string') continue;
    const name = /^#\/components\/schemas\/(\w+)$/.exec(node['$ref'])?.[1] ?? '';
    assert.ok(document.components.schemas[name] !== undefined, node['$ref']);
  }
  // Old spellings of OpenAPI 3.0 and of draft 4 have no meaning in 3.1.
  const text = JSON.stringify(document);
  assert.doesNotMatch(text, /"nullable"|"exclusiveMinimum":true|"definitions"/);
});

test('every route of the source is in the document, or is one of the few that are not for programs', async () => {
  const document = await readDocument();
  const hidden = new Set([
    '/v1/openapi.json',
    '/docs',
    '/docs/page.css',
    '/docs/page.js',
    '/docs/errors.json',
  ]);
  const sources = readSources(ROOT, ['src/api/routes']);
  const urls = [...sources.values()].flatMap((text) =>
    Array.from(
      text.matchAll(/app\.(get|post|put|patch|delete)\(\s*'([^']+)'/g),
      ([, method = '', url = '']) => [method, url] as const,
    ),
  );
  assert.ok(urls.length > 25, String(urls.length));
  for (const [method, url] of urls) {
    if (hidden.has(url)) continue;
    // Only there when the service has a status to show.
    if (url === '/debug/status') continue;
    const path = url.replaceAll(/:(\w+)/g, '{$1}');
    assert.ok(document.paths[path]?.[method] !== undefined, `${method} ${url}`);
  }
});

test('no answer has a field for a secret but those that show it once', async () => {
  const document = await readDocument();
  const { BuildSpec: _request, ...answers } = document.components.schemas;
  assert.doesNotMatch(JSON.stringify(answers), /"(?:password|sshKey|auth|rootfsPath)":/);
  const showing = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).flatMap(([method, { responses }]) =>
      JSON.stringify(responses).includes('"secret":') ? [`${method} ${path}`] : [],
    ),
  );
  assert.deepEqual(showing, ['post /v1/tokens', 'post /v1/webhooks']);
});

test('the page loads only what this service serves, under a strict policy, and has no inline code', async () => {
  await using api = await startTestApi();
  const page = await api.fetch('/docs');
  const html = await page.text();
  const policy = page.headers.get('content-security-policy') ?? '';
  assert.match(
    policy,
    /^default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';/,
  );
  assert.doesNotMatch(policy, /unsafe|https?:|\*/);
  assert.doesNotMatch(html, /<script>|<style|\son\w+=|https?:\/\//);
  for (const [, url = ''] of html.matchAll(/(?:src|href)="([^"]+)"/g)) {
    assert.equal((await api.fetch(url)).status, 200, url);
  }
  const script = await (await api.fetch('/docs/page.js')).text();
  assert.doesNotMatch(script, /innerHTML|insertAdjacentHTML|eval\(|new Function|document\.write/);
  // It parses; nothing is run.
  assert.ok(new Script(script));
  assert.deepEqual(
    await (await api.fetch('/docs/errors.json')).json(),
    JSON.parse(JSON.stringify(ERRORS)),
  );
});

test('the limits of the API that docs/api.md tells are the ones that are set', async () => {
  const { DEFAULT_API_LIMITS } = await import('../../src/api/api-limits.ts');
  const text = readFileSync(resolve(ROOT, 'docs/api.md'), 'utf8');
  for (const [name, value] of Object.entries(DEFAULT_API_LIMITS)) {
    assert.ok(text.includes(`| \`${name}\` | ${value} |`), `${name} ${value}`);
  }
});
