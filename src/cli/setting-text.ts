import { SETTINGS, type SettingName } from './settings.ts';

/** A parsed value as an operator would write it. */
export function settingText(name: SettingName, value: unknown): string {
  if (Array.isArray(value)) return value.join(',');
  const setting = SETTINGS[name];
  const isDuration = 'unit' in setting && setting.unit === 'ms';
  return isDuration && typeof value === 'number' ? durationText(value) : String(value);
}

function durationText(ms: number): string {
  if (ms % 1000 !== 0) return `${ms}ms`;
  const seconds = ms / 1000;
  if (seconds % 3600 === 0) return `${seconds / 3600}h`;
  return seconds % 60 === 0 ? `${seconds / 60}m` : `${seconds}s`;
}
