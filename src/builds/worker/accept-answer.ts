import { BuilderdError } from '../../core/errors.ts';
import type { WorkerAnswer } from './answer-reader.ts';
import { brokenAnswer } from './broken-answer.ts';
import type { ConvertedBuild, ConvertJob } from './converter.ts';
import { parseDocuments } from './described-image.ts';

/** Believes what can be seen from here, and hands the rest on as claims; `explain` adds to a fault. */
export async function acceptAnswer(
  answer: WorkerAnswer,
  job: ConvertJob,
  explain: (fault: BuilderdError) => BuilderdError,
): Promise<Pick<ConvertedBuild, 'artifacts' | 'metadataText' | 'fidelityText' | 'image'>> {
  if (answer.kind === 'none') throw brokenAnswer('it ended without one');
  if (answer.kind === 'failed') throw explain(new BuilderdError(answer.code, answer.message));
  const { artifacts, metadata, fidelity } = answer;
  if (artifacts.length !== job.outputs.length) throw brokenAnswer('artifacts are missing');
  for (const [i, { format, handle }] of job.outputs.entries()) {
    const claimed = artifacts[i];
    const { size } = await handle.stat();
    if (claimed?.format === format && claimed.sizeBytes === size) continue;
    throw brokenAnswer(`an artifact has ${size} bytes, it says ${claimed?.sizeBytes ?? 'nothing'}`);
  }
  const image = parseDocuments(metadata, fidelity, { image: job.image, artifacts });
  return {
    artifacts,
    metadataText: metadata.toString('utf8'),
    fidelityText: fidelity.toString('utf8'),
    image,
  };
}
