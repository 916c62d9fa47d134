export const HELP_AFTER_ROOT = `
Examples:
  builderd build debian:12 -o debian.ext4        pull an image, write an ext4 disk
  builderd build oci:./layout --format ext4,tar -o out/
  builderd doctor                                what this host can do

Settings are read from UNKEY_BUILDERD_… variables; a bad or unknown one stops the start.
Exit codes: 0 done, 1 the build failed, 2 wrong use, 3 this host cannot do it.
`;

export const HELP_AFTER_BUILD = `
Beside the artifact stand FILE.metadata.json (image config with the user as numbers, digests)
and FILE.fidelity.json (every case in which the image was ambiguous). With several formats the
directory holds rootfs.<format>, metadata.json and fidelity.json. A file appears only when it is
complete.

Examples:
  builderd build debian:12
  builderd build ghcr.io/org/app@sha256:… --size 4G --journal -o app.ext4
  builderd build docker-archive:app.tar --format ext4,tar -o app/
  builderd build registry.local:5000/app --guest-files --guest-init ./metald-init
`;
