// What each npm script runs and needs. `apt` names Debian packages; each has its reason below,
// which the user sees before it is installed.

const NATIVE = ['gcc', 'libc6-dev', 'libisal-dev'];
const BOOT = ['qemu-system-x86', 'busybox-static', 'kmod', 'xz-utils', 'e2fsprogs'];
const RUNTIME = ['containerd', 'runc', 'docker-registry', 'mmdebstrap'];
const ORACLES = [
  'golang-github-containerd-containerd-dev',
  'umoci',
  'skopeo',
  'attr',
  'acl',
  'openssl',
  'apache2-utils',
  'libarchive-tools',
  'prometheus',
  'protobuf-compiler',
  'age',
];
const DATABASE = ['postgresql-15'];
const PEERS = ['isal', 'buildah', 'podman', 'time'];

const TEST = [...NATIVE, ...RUNTIME, ...BOOT, ...ORACLES, ...DATABASE];

export const LANES = {
  demo: lane('contrib/dev/demo.ts', [], [...NATIVE, ...RUNTIME, ...BOOT], { root: true }),
  test: lane('contrib/dev/test.ts', [], TEST, { root: true }),
  unit: lane('contrib/dev/test.ts', ['unit'], NATIVE),
  vm: lane('contrib/dev/test.ts', ['vm'], TEST, { root: true }),
  bench: lane('test/bench/bench.ts', [], [...TEST, ...PEERS], { root: true }),
  check: lane('contrib/dev/test.ts', ['check'], []),
  native: lane(undefined, [], NATIVE),
  gen: lane('contrib/dev/gen-proto.ts', [], []),
};

export const APT_REASONS = {
  containerd: 'the container runtime that builderd drives, run privately',
  runc: 'starts the containers of containerd',
  'docker-registry': 'the loopback registry that serves the demo and test images',
  mmdebstrap: 'makes the Debian base image from the apt mirror of this machine',
  'qemu-system-x86': 'boots the finished disks',
  'busybox-static': 'the first minute of the guest: mounts the disk and hands over to its init',
  kmod: 'finds the kernel modules that the guest needs',
  'xz-utils': 'unpacks the guest kernel',
  e2fsprogs: 'checks the finished file systems (e2fsck)',
  gcc: 'compiles the native parts',
  'libc6-dev': 'headers for the native parts',
  'libisal-dev': 'fast decompression for the native parts',
  'postgresql-15': 'the second database of the service, run privately',
  isal: 'igzip, the decompression limit in the benchmark',
  time: 'measures CPU time and peak memory in the benchmark',
  'golang-github-containerd-containerd-dev': "containerd's own protos, which ours are held against",
  umoci: 'a second reader of OCI images, to compare with',
  skopeo: 'a second registry client, to compare with',
  attr: 'reads extended attributes in comparisons',
  acl: 'reads access control lists in comparisons',
  age: 'a second reader and writer of encrypted artifacts, to compare with',
  openssl: 'makes certificates for the registry with TLS',
  'apache2-utils': 'makes password files for the registry with authentication',
  'libarchive-tools': 'bsdtar, a second reader and writer of tar',
  prometheus: 'promtool, which evaluates alerts over our metrics',
  'protobuf-compiler': 'makes the messages of the RPC service, to compare with the committed ones',
  buildah: 'a peer in the benchmark',
  podman: 'a peer in the benchmark',
};

function lane(program, args, apt, { root = false } = {}) {
  return { program, args, apt, root, native: apt.includes('gcc') };
}
