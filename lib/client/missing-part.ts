const warned = new Set<string>();

/** Warns, once for each consequence, that a version of pg is not as this folder knows it. */
export function warnOfMissing(part: string, consequence: string): void {
  if (warned.has(consequence)) return;
  warned.add(consequence);
  process.emitWarning(`This version of pg has no ${part}: nestjs-pg ${consequence}, which is slower.`, {
    type: 'PgWarning',
  });
}
