/** A fixed set of buffers that a reader fills and several jobs use before it is filled again. */
export class SlabPool {
  readonly #free: Buffer[];
  readonly #waiting: ((slab: Buffer) => void)[] = [];
  /** Bytes of a slab that hold data; the rest is room for carries. */
  readonly dataBytes: number;

  constructor(
    count: number,
    dataBytes: number,
    extraBytes: number,
    allocate = (bytes: number): Buffer => Buffer.allocUnsafeSlow(bytes),
  ) {
    this.dataBytes = dataBytes;
    this.#free = Array.from({ length: count }, () => allocate(dataBytes + extraBytes));
  }

  take(): Promise<Buffer> {
    const slab = this.#free.pop();
    if (slab !== undefined) return Promise.resolve(slab);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  give(slab: Buffer): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free.push(slab);
    else next(slab);
  }
}
