/** What somebody who watches an import is told. */
export interface ImportProgress {
  readonly bytes: number;
  /** Known when everything is stored. */
  readonly rows?: number;
}
