// Generated: see contrib/dev/gen-proto.ts

import type { Mount as _containerd_types_Mount, Mount__Output as _containerd_types_Mount__Output } from '../../../../containerd/types/Mount.ts';

export interface MountsResponse {
  'mounts'?: (_containerd_types_Mount)[];
}

export interface MountsResponse__Output {
  'mounts': (_containerd_types_Mount__Output)[];
}
