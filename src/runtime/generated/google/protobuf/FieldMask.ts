// Generated: see contrib/dev/gen-proto.ts


export interface FieldMask {
  'paths'?: (string)[];
}

export interface FieldMask__Output {
  'paths': (string)[];
}
