// Generated: see contrib/dev/gen-proto.ts

import type { Long } from '@grpc/proto-loader';

export interface ServerResponse {
  'uuid'?: (string);
  'pid'?: (number | string | Long);
  'pidns'?: (number | string | Long);
}

export interface ServerResponse__Output {
  'uuid': (string);
  'pid': (string);
  'pidns': (string);
}
