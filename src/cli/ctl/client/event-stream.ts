import { BuilderdError } from '../../../core/errors.ts';

export interface StreamEvent {
  readonly id: string | undefined;
  readonly type: string;
  readonly data: string;
}

/** A log entry is far smaller; a line that never ends must not fill the memory. */
const MAX_EVENT_CHARS = 4 * 1024 * 1024;

/** Server-sent events of a body, comments dropped. Throws `server.invalid` for one without an end. */
export async function* readEvents(
  body: AsyncIterable<Buffer>,
): AsyncGenerator<StreamEvent, void, void> {
  const decoder = new TextDecoder();
  let rest = '';
  let fields: Fields = { id: undefined, type: 'message', data: [], chars: 0 };
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const text = line.endsWith('\r') ? line.slice(0, -1) : line;
      if (text !== '') {
        addLine(fields, text);
        continue;
      }
      const { id, type, data } = fields;
      if (data.length > 0) yield { id, type, data: data.join('\n') };
      fields = { id: undefined, type: 'message', data: [], chars: 0 };
    }
    if (rest.length + fields.chars > MAX_EVENT_CHARS) {
      throw new BuilderdError(
        'server.invalid',
        `Cannot follow: the server sent an event of more than ${MAX_EVENT_CHARS} characters`,
      );
    }
  }
}

interface Fields {
  id: string | undefined;
  type: string;
  readonly data: string[];
  chars: number;
}

function addLine(fields: Fields, line: string): void {
  const colon = line.indexOf(':');
  const name = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
  fields.chars += line.length;
  if (name === 'id') fields.id = value;
  else if (name === 'event') fields.type = value;
  else if (name === 'data') fields.data.push(value);
}
