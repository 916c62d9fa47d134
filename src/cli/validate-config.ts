import { formatBytes } from '../core/units.ts';
import {
  type Config,
  isSecret,
  parseConfig,
  PREFIX,
  readSettingsText,
  type SettingsText,
} from './config.ts';
import type { Io } from './io.ts';
import { createRedact } from './logging/redact.ts';
import { oneLine } from './print-fault.ts';
import { checkSettings } from './serve/check-settings.ts';
import { settingText } from './setting-text.ts';
import { SETTINGS, type SettingName } from './settings.ts';

export interface EffectiveSetting {
  readonly name: SettingName;
  /** As an operator would write it; a secret is `***`. */
  readonly value: string;
  readonly source: 'environment' | 'file' | 'default';
}

/** `builderd --validate-config`: what is in effect, and from where. Throws `config.invalid`. */
export function validateConfig(file: string | undefined, io: Io): void {
  const text = readSettingsText(file);
  const config = parseConfig(text.values);
  checkSettings(config);
  const settings = effectiveSettings(config, text);
  const width = Math.max(...settings.map(({ name }) => name.length)) + PREFIX.length;
  for (const { name, value, source } of settings) {
    io.stdout.write(`${(PREFIX + name).padEnd(width)}  ${source.padEnd(11)}  ${oneLine(value)}\n`);
  }
  io.stdout.write(`The configuration is valid (${config.given.size} settings given)\n`);
}

/** Every setting, in the order of the table. */
export function effectiveSettings(config: Config, text: SettingsText): EffectiveSetting[] {
  const mask = createRedact([]);
  return config.names.map((name) => ({
    name,
    value: isSecret(name)
      ? maskSecret(config.settings[name])
      : mask(show(name, config.settings[name])),
    source: sourceOf(name, config, text),
  }));
}

function sourceOf(
  name: SettingName,
  config: Config,
  { values, file }: SettingsText,
): EffectiveSetting['source'] {
  if (!config.given.has(name)) return 'default';
  const inFile = file?.values[PREFIX + name];
  return inFile !== undefined && inFile === values[PREFIX + name] ? 'file' : 'environment';
}

function maskSecret(value: unknown): string {
  return value === '' ? '' : '***';
}

/** With the size in words: a unit too few is seen at a glance. */
function show(name: SettingName, value: unknown): string {
  const setting = SETTINGS[name];
  const isSize = 'unit' in setting && setting.unit === 'bytes';
  return isSize && typeof value === 'number'
    ? `${value} (${formatBytes(value)})`
    : settingText(name, value);
}
