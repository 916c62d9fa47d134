interface Wanted {
  readonly type: string;
  readonly quality: number;
  readonly at: number;
}

const MAX_RANGES = 20;

/**
 * The offer that an Accept header likes best: by quality, then by how exactly it is named, then by
 * the order of the offers. Undefined when it likes none. Without a header, the first offer.
 */
export function chooseMediaType<const T extends string>(
  header: string | undefined,
  offers: readonly T[],
): T | undefined {
  if (header === undefined || header.trim() === '') return offers[0];
  const wanted = header.split(',', MAX_RANGES).map(parseRange);
  const ranked = offers
    .map((offer) => ({ offer, match: bestMatch(offer, wanted) }))
    .filter(({ match }) => match !== undefined && match.quality > 0);
  let best: (typeof ranked)[number] | undefined;
  for (const each of ranked) {
    if (best === undefined || rank(each.match) > rank(best.match)) best = each;
  }
  return best?.offer;
}

function parseRange(text: string, at: number): Wanted {
  const [type = '', ...parameters] = text.split(';').map((part) => part.trim().toLowerCase());
  const q = parameters.find((each) => each.startsWith('q='))?.slice(2);
  const quality =
    q === undefined ? 1 : /^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/.test(q) ? Number(q) : 0;
  return { type, quality, at };
}

/** The most exact range decides, also when it says no: `text/plain;q=0, *\/*` refuses plain text. */
function bestMatch(offer: string, wanted: readonly Wanted[]): Match | undefined {
  const group = `${offer.slice(0, offer.indexOf('/'))}/*`;
  for (const [exactness, type] of [[2, offer] as const, [1, group] as const, [0, '*/*'] as const]) {
    const found = wanted.find((each) => each.type === type);
    if (found !== undefined) return { quality: found.quality, exactness };
  }
  return undefined;
}

interface Match {
  readonly quality: number;
  readonly exactness: number;
}

function rank(match: Match | undefined): number {
  return match === undefined ? -1 : match.quality * 10 + match.exactness;
}
