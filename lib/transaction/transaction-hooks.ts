type Hook = () => unknown;

/** What is to be done when a transaction is over. */
export class TransactionHooks {
  readonly committed: Hook[] = [];
  readonly rolledBack: Hook[] = [];

  /** An inner transaction has succeeded: its fate is that of the outer one. */
  take(inner: TransactionHooks): void {
    this.committed.push(...inner.committed);
    this.rolledBack.push(...inner.rolledBack);
  }

  /** An inner transaction was rolled back, whatever becomes of the outer one. */
  takeBack(inner: TransactionHooks): void {
    this.committed.push(...inner.rolledBack);
    this.rolledBack.push(...inner.rolledBack);
  }

  /** Runs hooks one after the other; what they throw goes to `warn`. */
  static async run(hooks: readonly Hook[], warn: (error: unknown) => void): Promise<void> {
    for (const hook of hooks) {
      try {
        await hook();
      } catch (error) {
        warn(error);
      }
    }
  }
}
