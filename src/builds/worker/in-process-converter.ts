import { convertBuild, type ConversionDeps } from '../convert-build.ts';
import type { Converter } from './converter.ts';
import { parseDocuments } from './described-image.ts';

/**
 * Converts in this process: for hosts and tests where no worker can be started. Nothing stands
 * between a fault in the conversion and the process that calls it.
 */
export function createInProcessConverter(deps: ConversionDeps): Converter {
  return {
    async convert(job, call) {
      await using files = new AsyncDisposableStack();
      const before = process.resourceUsage();
      const converted = await convertBuild(
        {
          ...job,
          outputs: job.outputs.map(({ format, handle, file }) => ({
            format,
            handle,
            file: file ?? `rootfs.${format}`,
          })),
          openScratch: async () => files.use(await job.openScratch()),
        },
        deps,
        call,
      );
      const { artifacts, metadataText, fidelityText } = converted;
      const documents = [Buffer.from(metadataText), Buffer.from(fidelityText)] as const;
      const after = process.resourceUsage();
      return {
        artifacts,
        metadataText,
        fidelityText,
        image: parseDocuments(...documents, { image: job.image, artifacts }),
        memoryPeakBytes: after.maxRSS * 1024,
        cpuUs: after.userCPUTime + after.systemCPUTime - before.userCPUTime - before.systemCPUTime,
        isolation: {
          sandboxId: '',
          networkNamespace: '',
          filesystemNamespace: '',
          securityContexts: [],
          cgroupPath: '',
        },
        charged: false,
      };
    },
  };
}
