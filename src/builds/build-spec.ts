import type { Static } from 'typebox';
import { Type } from '../core/schema/schema-builders.ts';
import { MAX_PATTERN_BYTES } from '../rootfs/filter/path-pattern.ts';
import { MAX_PATTERNS } from '../rootfs/filter/tree-filter.ts';
import {
  ENV_NAME,
  MAX_RUNTIME_CHARS,
  MAX_RUNTIME_ITEMS,
} from '../rootfs/image-config/runtime-overrides.ts';

const MIB = 1024 ** 2;

const text = (maxLength: number, about: string) =>
  Type.String({ maxLength, pattern: '^[^\\u0000]*$', description: about });
const strict = { additionalProperties: false };

const RegistryAuth = Type.Object(
  {
    username: Type.Optional(text(256, 'User name at the registry.')),
    password: Type.Optional(text(4096, 'Password; write-only.')),
    token: Type.Optional(text(16_384, 'Bearer token instead of user and password; write-only.')),
    registry: Type.Optional(
      text(256, 'Registry that the login is for; refused when the image comes from another one.'),
    ),
  },
  strict,
);

const Patterns = (about: string) =>
  Type.Array(text(MAX_PATTERN_BYTES, 'Such as `usr/share/doc`, `**/*.pyc`.'), {
    maxItems: MAX_PATTERNS,
    description: `${about} Paths from the root without a leading slash; *, ?, [a-z], ** for any depth. See docs/filters.md.`,
  });

const Words = (about: string) =>
  Type.Array(text(MAX_RUNTIME_CHARS, 'One word.'), {
    maxItems: MAX_RUNTIME_ITEMS,
    description: about,
  });

/** What of the image's own words the build replaces; without secrets: all of it is answered. */
const Runtime = Type.Object(
  {
    entrypoint: Type.Optional(Words("Program; the image's arguments go with the image's own.")),
    command: Type.Optional(Words('Arguments, or the program when there is no entrypoint.')),
    workingDir: Type.Optional(text(MAX_RUNTIME_CHARS, 'Absolute path in the guest.')),
    env: Type.Optional(
      Type.Record(Type.String({ pattern: ENV_NAME }), text(MAX_RUNTIME_CHARS, 'Value.'), {
        maxProperties: MAX_RUNTIME_ITEMS,
        additionalProperties: false,
        description: "Joins the image's variables and wins. No secrets: it is stored and answered.",
      }),
    ),
    exposedPorts: Type.Optional(Words('`80`, `80/tcp`, `8000-8010/udp`, in place of the image’s.')),
  },
  { ...strict, description: 'What the guest runs in place of what the image says.' },
);

const GitAuth = Type.Object(
  {
    username: Type.Optional(text(256, 'User name.')),
    password: Type.Optional(text(4096, 'Password; write-only.')),
    token: Type.Optional(text(16_384, 'Token; write-only.')),
    sshKey: Type.Optional(text(65_536, 'Private key; write-only.')),
  },
  strict,
);

/** What a caller asks for: the body of `POST /v1/builds`, and what a row's `request` holds. */
export const BuildSpecSchema = Type.Object(
  {
    source: Type.Union([
      Type.Object(
        {
          image: Type.Object(
            {
              reference: text(2048, 'Image reference, `debian:12` or `ghcr.io/a/b@sha256:…`.'),
              auth: Type.Optional(RegistryAuth),
            },
            strict,
          ),
        },
        strict,
      ),
      Type.Object(
        {
          git: Type.Object(
            {
              url: text(2048, 'Repository URL.'),
              ref: Type.Optional(text(1024, 'Branch, tag or commit.')),
              context: Type.Optional(text(4096, 'Directory in the repository.')),
              auth: Type.Optional(GitAuth),
            },
            strict,
          ),
        },
        strict,
      ),
      Type.Object(
        {
          archive: Type.Object(
            {
              url: text(2048, 'URL of a tar or zip archive.'),
              type: Type.Optional(text(32, '`tar.gz`, `zip`, …')),
              context: Type.Optional(text(4096, 'Directory in the archive.')),
            },
            strict,
          ),
        },
        strict,
      ),
    ]),
    target: Type.Optional(
      Type.Object(
        {
          formats: Type.Optional(
            Type.Array(Type.Union([Type.Literal('ext4'), Type.Literal('tar')]), {
              minItems: 1,
              maxItems: 2,
              uniqueItems: true,
              description: 'Default: ext4.',
            }),
          ),
          sizeBytes: Type.Optional(
            Type.Integer({
              minimum: 0,
              maximum: 2 ** 50,
              description: 'Size of the ext4 disk; smallest that fits when absent.',
            }),
          ),
          extraBytes: Type.Optional(
            Type.Integer({
              minimum: 0,
              maximum: 2 ** 50,
              description: 'Free space beyond the content.',
            }),
          ),
          label: Type.Optional(text(16, 'ext4 volume label.')),
          journal: Type.Optional(Type.Boolean()),
          lostFound: Type.Optional(Type.Boolean()),
          guestFiles: Type.Optional(Type.Boolean({ description: 'Add the guest contract.' })),
          devices: Type.Optional(
            Type.Union([Type.Literal('keep'), Type.Literal('standard'), Type.Literal('drop')]),
          ),
          exclude: Type.Optional(Patterns('Left out of the image, with all below.')),
          preserve: Type.Optional(Patterns('Kept, whatever leaves it out.')),
          removeDocs: Type.Optional(
            Type.Boolean({ description: 'Leave out manuals and the like; licence texts stay.' }),
          ),
          removeCache: Type.Optional(
            Type.Boolean({ description: 'Leave out caches and temporary files.' }),
          ),
          runtime: Type.Optional(Runtime),
          sourceDateEpoch: Type.Optional(Type.Integer({ minimum: 0, maximum: 2 ** 34 })),
        },
        strict,
      ),
    ),
    platform: Type.Optional(text(64, '`linux/amd64`, `linux/arm64/v8`; the host’s when absent.')),
    pullPolicy: Type.Optional(
      Type.Union([Type.Literal('always'), Type.Literal('missing'), Type.Literal('never')]),
    ),
    name: Type.Optional(text(200, 'For people.')),
    labels: Type.Optional(
      Type.Record(Type.String({ pattern: '^[A-Za-z0-9._/-]{1,128}$' }), text(1024, 'Value.'), {
        maxProperties: 64,
        // Without it, a key that does not match may hold anything.
        additionalProperties: false,
      }),
    ),
    priority: Type.Optional(
      Type.Integer({
        minimum: -100,
        maximum: 100,
        description: 'Within the tenant; higher first.',
      }),
    ),
    timeoutSeconds: Type.Optional(Type.Integer({ minimum: 1, maximum: 86_400 })),
    limits: Type.Optional(
      Type.Object(
        {
          maxMemoryBytes: Type.Optional(
            Type.Integer({
              // What a worker takes anyway: less would let builds crowd a host.
              minimum: 256 * MIB,
              maximum: 2 ** 50,
              description: "Memory of this build, if that is less than the tenant's.",
            }),
          ),
          maxDiskBytes: Type.Optional(
            Type.Integer({
              minimum: MIB,
              maximum: 2 ** 50,
              description: "Largest artifact of this build, if that is less than the tenant's.",
            }),
          ),
        },
        strict,
      ),
    ),
  },
  { ...strict, $id: 'BuildSpec', description: 'What to build, and into what.' },
);

export type BuildSpec = Static<typeof BuildSpecSchema>;
