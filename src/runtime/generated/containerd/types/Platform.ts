// Generated: see contrib/dev/gen-proto.ts


export interface Platform {
  'os'?: (string);
  'architecture'?: (string);
  'variant'?: (string);
}

export interface Platform__Output {
  'os': (string);
  'architecture': (string);
  'variant': (string);
}
