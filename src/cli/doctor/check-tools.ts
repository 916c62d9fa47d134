import { ok, warn, type Check } from './check.ts';
import { findTool, runTool, type ToolCall } from './run-tool.ts';
import { FLOORS, formatVersion, meetsFloor, parseVersion } from './version-floor.ts';

interface Tool {
  readonly name: string;
  readonly args: readonly string[];
  readonly use: string;
  readonly debianPackage: string;
}

const TOOLS: readonly Tool[] = [
  { name: 'e2fsck', args: ['-V'], use: 'checking ext4 disks', debianPackage: 'e2fsprogs' },
  {
    name: 'qemu-system-x86_64',
    args: ['--version'],
    use: 'booting disks',
    debianPackage: 'qemu-system-x86',
  },
  { name: 'mkfs.erofs', args: ['-V'], use: 'compressed EROFS', debianPackage: 'erofs-utils' },
  { name: 'mksquashfs', args: ['-version'], use: 'squashfs', debianPackage: 'squashfs-tools' },
  { name: 'git', args: ['--version'], use: 'Git sources', debianPackage: 'git' },
];

/** Programs that builderd or its tests can use; converting to ext4 and tar needs none of them. */
export async function checkTools(call: ToolCall): Promise<Check[]> {
  return await Promise.all(TOOLS.map((tool) => checkTool(tool, call)));
}

async function checkTool(tool: Tool, call: ToolCall): Promise<Check> {
  const id = `tool.${tool.name}`;
  const file = await findTool(tool.name, call);
  if (file === undefined) {
    const advice = `Install ${tool.debianPackage} if you want it; ext4 and tar need no tool.`;
    return warn(id, `${tool.name} is not in $PATH (${tool.use})`, advice);
  }
  const version = parseVersion((await runTool(file, tool.args, call)) ?? '');
  const shown = version === undefined ? '' : ` ${formatVersion(version)}`;
  if (tool.name === 'git' && version !== undefined && !meetsFloor(version, FLOORS.git)) {
    return warn(
      id,
      `git${shown} is below the floor (2.50.1: CVE-2025-48384 and others)`,
      'Upgrade git, or check that your distribution has the fixes in this version.',
    );
  }
  return ok(id, `${tool.name}${shown} at ${file}`);
}
