// Generated: see contrib/dev/gen-proto.ts


export interface StatusRequest {
  'ref'?: (string);
}

export interface StatusRequest__Output {
  'ref': (string);
}
