/** What the application has of a row: int4, int8, float8, text, timestamptz. */
export type Item = readonly [id: number, total: number, ratio: number, name: string, at: Date];

/** A row as it is read: of its columns only one is looked at. */
export interface Row {
  readonly id: number;
}

export interface StreamClient {
  /** Hands out every row of a statement. */
  readonly read?: (text: string, see: (row: Row) => void) => Promise<void>;
  /** Makes ready to load so many rows, which is not measured. */
  readonly prepare?: (count: number) => Promise<void>;
  /** Puts rows into the target table. */
  readonly load?: (items: Iterable<Item>, count: number) => Promise<void>;
  close(): Promise<void>;
}

export type StreamSubject = (connectionString: string) => Promise<StreamClient>;
