import { BuilderdError } from '../../core/errors.ts';
import { formatReference, parseReference } from '../registry/reference.ts';
import {
  isJsonArray,
  isJsonObject,
  type JsonValue,
  parseStrictJson,
} from '../../core/strict-json.ts';

/** One image of a docker archive's manifest.json: names of members. */
export interface DockerArchiveImage {
  readonly config: string;
  /** Bottom to top. */
  readonly layers: readonly string[];
  readonly repoTags: readonly string[];
}

/** The image that the tag names (any spelling of the reference), or the only one. */
export function chooseDockerImage(bytes: Buffer, tag: string | undefined): DockerArchiveImage {
  const list = parseStrictJson(bytes, 'manifest.json');
  if (!isJsonArray(list)) throw invalid('it is not a list');
  const images = list.map(parseImage);
  const found = tag === undefined ? images : images.filter((each) => isNamed(each, tag));
  const [image, ...others] = found;
  if (image !== undefined && others.length === 0) return image;
  const tags = images.flatMap((each) => each.repoTags).slice(0, 10);
  throw new BuilderdError(
    'source.not_found',
    tag === undefined
      ? `Cannot choose an image of the archive: it holds ${images.length}; name one of ${JSON.stringify(tags)}`
      : `Cannot find ${JSON.stringify(tag)} in the archive: ${found.length} images match of ${JSON.stringify(tags)}`,
  );
}

function parseImage(value: JsonValue): DockerArchiveImage {
  if (!isJsonObject(value)) throw invalid('an entry is not an object');
  const config = value.get('Config');
  if (typeof config !== 'string') throw invalid('an entry has no Config');
  return {
    config,
    layers: strings(value.get('Layers'), 'Layers'),
    repoTags: strings(value.get('RepoTags'), 'RepoTags'),
  };
}

function strings(value: JsonValue | undefined, name: string): readonly string[] {
  if (value === undefined || value === null) return [];
  if (!isJsonArray(value)) throw invalid(`${name} is not a list`);
  return value.map((each) => {
    if (typeof each === 'string') return each;
    throw invalid(`${name} is not a list of strings`);
  });
}

/** `1.0` matches any repository's tag 1.0; a full name matches its normalised self. */
function isNamed(image: DockerArchiveImage, tag: string): boolean {
  return image.repoTags.some(
    (each) => each === tag || each.endsWith(`:${tag}`) || normalized(each) === normalized(tag),
  );
}

function normalized(text: string): string {
  try {
    return formatReference(parseReference(text));
  } catch (reason) {
    // Whatever is no reference is compared as it is written.
    if (reason instanceof BuilderdError) return text;
    throw reason;
  }
}

function invalid(fact: string): BuilderdError {
  return new BuilderdError('source.invalid', `Cannot use manifest.json of the archive: ${fact}`);
}
