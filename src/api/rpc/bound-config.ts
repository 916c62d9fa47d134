import { reflect, type ReflectMessage } from '@bufbuild/protobuf/reflect';
import { BuilderdError } from '../../core/errors.ts';
import { isPlainText } from '../../core/plain-text.ts';
import { type BuildConfig, BuildConfigSchema } from './generated/builder_pb.js';

/** As `labels` of a BuildSpec are bounded. */
const MAX_MEMBERS = 64;
const MAX_KEY = 128;
const MAX_VALUE = 1024;
/** As the BuildSpec bounds `env`. */
const MAX_VARIABLES = 256;
const MAX_LIST = 1000;
/** What has no narrower bound here or in the BuildSpec. */
const MAX_TEXT = 4096;
/** Ids and names of another system, which we only keep. */
const MAX_ID = 128;
const IDS = new Set(['customer_id', 'organization_id', 'suggested_asset_id', 'permissions']);
/** Bounded by the BuildSpec, and never kept or shown: a key of SSH has lines. */
const SECRETS = new Set(['password', 'token', 'ssh_key']);

/**
 * Holds the free fields of a BuildConfig, which are kept as they came and answered again, to what
 * REST takes: short texts without control characters, few entries. Throws `api.invalid` with the
 * name of the field.
 */
export function boundConfig(config: BuildConfig): void {
  boundMessage(reflect(BuildConfigSchema, config), 'config');
}

function boundMessage(message: ReflectMessage, path: string): void {
  for (const field of message.fields) {
    if (SECRETS.has(field.name) || !message.isSet(field)) continue;
    const at = `${path}.${field.name}`;
    const most = IDS.has(field.name) ? MAX_ID : MAX_TEXT;
    switch (field.fieldKind) {
      case 'message':
        boundMessage(message.get(field), at);
        break;
      case 'list': {
        const list = message.get(field);
        if (list.size > MAX_LIST) throw invalid(at, `has over ${MAX_LIST} entries`);
        for (const each of list) boundText(each, at, most);
        break;
      }
      case 'map': {
        const map = message.get(field);
        const isEnv = field.name === 'environment';
        const members = isEnv ? MAX_VARIABLES : MAX_MEMBERS;
        if (map.size > members) throw invalid(at, `has over ${members} entries`);
        for (const [key, value] of map) {
          boundText(key, at, MAX_KEY);
          boundText(value, at, isEnv ? MAX_TEXT : MAX_VALUE);
        }
        break;
      }
      default:
        boundText(message.get(field), at, most);
    }
  }
}

/** Numbers and the like have bounds of their own. */
function boundText(value: unknown, path: string, most: number): void {
  if (typeof value !== 'string') return;
  if (value.length > most) throw invalid(path, `has a text of over ${most} characters`);
  if (!isPlainText(value)) throw invalid(path, 'has a control character or half a character');
}

function invalid(path: string, fact: string): BuilderdError {
  return new BuilderdError('api.invalid', `Cannot create the build: ${path} ${fact}`);
}
