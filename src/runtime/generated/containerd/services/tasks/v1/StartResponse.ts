// Generated: see contrib/dev/gen-proto.ts


export interface StartResponse {
  'pid'?: (number);
}

export interface StartResponse__Output {
  'pid': (number);
}
