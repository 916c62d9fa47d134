/** The page that shows the OpenAPI document: three texts, nothing from elsewhere. */
export const PAGE_HTML = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>builderd API</title>
<link rel="stylesheet" href="/docs/page.css">
<script src="/docs/page.js" defer></script>
</head>
<body>
<header><h1>builderd API</h1><p id="about">Loading <a href="/v1/openapi.json">/v1/openapi.json</a></p></header>
<nav id="tags" aria-label="Groups"></nav>
<main id="routes"></main>
<section aria-labelledby="errors-title"><h2 id="errors-title">Error codes</h2><table id="errors"></table></section>
</body>
</html>
`;

export const PAGE_CSS = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 62rem; margin: 0 auto; padding: 1rem; }
code, pre { font: 0.875rem/1.4 ui-monospace, monospace; }
nav a { margin-right: 1rem; }
details { border: 1px solid #8888; border-radius: 6px; margin: 0.5rem 0; padding: 0.25rem 0.75rem; }
summary { cursor: pointer; }
summary b { display: inline-block; min-width: 4.5rem; }
pre { overflow-x: auto; padding: 0.5rem; background: #8881; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0; border-bottom: 1px solid #8884; }
tr:target { outline: 2px solid; }
`;

/** Builds the page from the two documents with DOM calls only: no text is ever taken for HTML. */
export const PAGE_JS = `'use strict';
const node = (name, text, attributes = {}) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};
const show = (value) => JSON.stringify(value, null, 2);
const row = (cells, attributes) => {
  const made = node('tr', undefined, attributes);
  for (const cell of cells) made.append(node('td', cell));
  return made;
};
const parameterTable = (parameters) => {
  const table = node('table');
  for (const each of parameters) {
    const type = each.schema?.type ?? '';
    table.append(row([each.name, each.in, each.required ? 'required' : '', type, each.description ?? each.schema?.description ?? '']));
  }
  return table;
};
const operation = (method, path, each, document) => {
  const made = node('details', undefined, { id: each.operationId ?? method + path });
  const head = node('summary');
  head.append(node('b', method.toUpperCase()), node('code', path), node('span', ' ' + (each.summary ?? '')));
  made.append(head);
  if (each.description) made.append(node('p', each.description));
  if (each.parameters?.length) made.append(parameterTable(each.parameters));
  const body = each.requestBody?.content?.['application/json']?.schema;
  if (body) made.append(node('h4', 'Body'), node('pre', show(resolve(body, document))));
  for (const [status, answer] of Object.entries(each.responses ?? {})) {
    made.append(node('h4', status + ' ' + (answer.description ?? '')));
    for (const [type, content] of Object.entries(answer.content ?? {})) {
      made.append(node('code', type), node('pre', show(resolve(content.schema, document))));
    }
  }
  return made;
};
const resolve = (schema, document) => {
  const name = schema?.$ref?.split('/').at(-1);
  return name ? document.components.schemas[name] : schema;
};
const main = async () => {
  const [document_, errors] = await Promise.all(
    ['/v1/openapi.json', '/docs/errors.json'].map(async (url) => (await fetch(url)).json()),
  );
  document.getElementById('about').textContent = document_.info.description;
  for (const tag of document_.tags) {
    const section = node('section', undefined, { id: 'tag-' + tag.name });
    section.append(node('h2', tag.name), node('p', tag.description));
    for (const [path, methods] of Object.entries(document_.paths)) {
      for (const [method, each] of Object.entries(methods)) {
        if (each.tags?.[0] === tag.name) section.append(operation(method, path, each, document_));
      }
    }
    if (section.children.length === 2) continue;
    document.getElementById('routes').append(section);
    document.getElementById('tags').append(node('a', tag.name, { href: '#tag-' + tag.name }));
  }
  const table = document.getElementById('errors');
  for (const [code, entry] of Object.entries(errors)) {
    table.append(row([code, String(entry.status), entry.fault, entry.retryable ? 'retry' : '', entry.hint], { id: code }));
  }
  if (location.hash) location.replace(location.hash);
};
main().catch((fault) => {
  document.getElementById('about').textContent = 'Cannot show the document: ' + fault.message;
});
`;
