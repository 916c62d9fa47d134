/** How much a build may say. What is beyond is dropped and counted, and a marker entry says so. */
export interface LogLimits {
  /** One entry's message. */
  readonly lineBytes: number;
  /** As long as it lasts; a second's worth may come at once. */
  readonly bytesPerSecond: number;
  /** All attempts together. */
  readonly buildBytes: number;
  /** What may wait in memory while the database does not answer. */
  readonly queueBytes: number;
}

const KIB = 1024;

export const LOG_LIMITS: LogLimits = {
  lineBytes: 64 * KIB,
  bytesPerSecond: KIB ** 2,
  buildBytes: 64 * KIB ** 2,
  queueBytes: 2 * KIB ** 2,
};
