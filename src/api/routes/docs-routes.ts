import { ERRORS } from '../../core/error-catalogue.ts';
import type { ApiApp } from '../api-options.ts';
import { PUBLIC } from '../auth/access.ts';
import { PAGE_CSS, PAGE_HTML, PAGE_JS } from '../docs/page.ts';

const PAGE_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const FILES = [
  ['/docs', 'text/html; charset=utf-8', PAGE_HTML],
  ['/docs/page.css', 'text/css; charset=utf-8', PAGE_CSS],
  ['/docs/page.js', 'text/javascript; charset=utf-8', PAGE_JS],
] as const;

/** The OpenAPI document, the page that shows it, and the catalogue of errors. */
export function addDocsRoutes(app: ApiApp): void {
  let document: string | undefined;
  app.get(
    '/v1/openapi.json',
    { config: { guard: PUBLIC }, schema: { hide: true } },
    async (_request, reply) => {
      document ??= JSON.stringify(app.swagger());
      return reply
        .type('application/json')
        .header('cache-control', 'public, max-age=60')
        .send(document);
    },
  );
  for (const [url, type, text] of FILES) {
    app.get(url, { config: { guard: PUBLIC }, schema: { hide: true } }, async (_request, reply) =>
      reply
        .type(type)
        .header('cache-control', 'public, max-age=60')
        .header('content-security-policy', PAGE_POLICY)
        .send(text),
    );
  }
  app.get(
    '/docs/errors.json',
    { config: { guard: PUBLIC }, schema: { hide: true } },
    async (_request, reply) =>
      reply
        .type('application/json')
        .header('cache-control', 'public, max-age=60')
        .send(JSON.stringify(ERRORS)),
  );
}
