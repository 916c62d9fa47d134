// Generated: see contrib/dev/gen-proto.ts


export interface Options {
  'no_pivot_root'?: (boolean);
  'no_new_keyring'?: (boolean);
  'shim_cgroup'?: (string);
  'io_uid'?: (number);
  'io_gid'?: (number);
  'binary_name'?: (string);
  'root'?: (string);
  'systemd_cgroup'?: (boolean);
}

export interface Options__Output {
  'no_pivot_root': (boolean);
  'no_new_keyring': (boolean);
  'shim_cgroup': (string);
  'io_uid': (number);
  'io_gid': (number);
  'binary_name': (string);
  'root': (string);
  'systemd_cgroup': (boolean);
}
