// Generated: see contrib/dev/gen-proto.ts


export interface AbortRequest {
  'ref'?: (string);
}

export interface AbortRequest__Output {
  'ref': (string);
}
