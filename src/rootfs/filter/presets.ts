/** What a preset leaves out, and what of that it keeps all the same. */
export interface Preset {
  readonly exclude: readonly string[];
  readonly keep: readonly string[];
  /** Kept if they are directories; what lies in them is not kept with them. */
  readonly keepDirectories: readonly string[];
  readonly keepSymlinks: readonly string[];
}

/**
 * Manuals and the like. Licence texts stay, because licences want them to go with the programs:
 * Debian's `copyright`, and names that other packages use. A symlink in usr/share/doc stands for
 * another package's directory there, so it stays too. The sections of man stay as directories:
 * packages that are installed later put links into them and fail without.
 */
export const DOCUMENTATION: Preset = {
  exclude: [
    ...['doc', 'man', 'info'].flatMap((name) => [
      `usr/share/${name}/**`,
      `usr/local/share/${name}/**`,
    ]),
    'usr/share/doc-base/**',
    'usr/share/gtk-doc/**',
    'usr/share/help/**',
  ],
  keep: [
    '**/[Cc]opyright',
    '**/[Cc]opyright.*',
    ...['LICENSE', 'LICENCE', 'License', 'Licence', 'license', 'licence', 'COPYING', 'COPYRIGHT']
      .concat(['NOTICE', 'NOTICES'])
      .map((name) => `**/${name}*`),
  ].flatMap((pattern) => [`usr/share/doc/${pattern}`, `usr/local/share/doc/${pattern}`]),
  keepDirectories: ['usr/share/man/man?', 'usr/local/share/man/man?'],
  keepSymlinks: ['usr/share/doc/*', 'usr/local/share/doc/*'],
};

/**
 * What package managers and programs can make again. The directories of var/cache stay: services
 * own them and do not start without.
 */
export const CACHES: Preset = {
  exclude: ['var/cache/**', 'var/lib/apt/lists/**', 'tmp/**', 'var/tmp/**'],
  keep: [],
  keepDirectories: ['var/cache/**'],
  keepSymlinks: [],
};
