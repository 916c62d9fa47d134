/**
 * An open file as the conversion uses it. Node's FileHandle is one; in a worker process it is a
 * descriptor that another process opened, which Node cannot make into a FileHandle. Positions are
 * always explicit: the offset of the descriptor may belong to somebody else too.
 */
export interface OpenFile extends AsyncDisposable {
  readonly fd: number;
  read(
    into: Buffer,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ readonly bytesRead: number }>;
  write(
    from: Buffer,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ readonly bytesWritten: number }>;
  stat(): Promise<{ readonly size: number }>;
  truncate(length: number): Promise<void>;
  sync(): Promise<void>;
}
