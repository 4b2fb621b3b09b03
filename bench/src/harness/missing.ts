/** A subject that is not on this machine: it is left out of the run, which has not failed. */
export class MissingError extends Error {}

export function isMissing(error: unknown): error is Error {
  return (
    error instanceof MissingError ||
    (error instanceof Error && (error as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND')
  );
}
