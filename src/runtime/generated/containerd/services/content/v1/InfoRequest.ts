// Generated: see contrib/dev/gen-proto.ts


export interface InfoRequest {
  'digest'?: (string);
}

export interface InfoRequest__Output {
  'digest': (string);
}
