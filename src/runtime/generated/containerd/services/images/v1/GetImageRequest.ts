// Generated: see contrib/dev/gen-proto.ts


export interface GetImageRequest {
  'name'?: (string);
}

export interface GetImageRequest__Output {
  'name': (string);
}
