/** From the order to the table, one after the other. */
export const STATUSES = ['new', 'cooking', 'ready', 'served'] as const;

export interface Order {
  readonly id: number;
  readonly dish: string;
  readonly table: number;
  readonly status: (typeof STATUSES)[number];
}

/** What an open page is told: one order that has changed, or all of them. */
export type BoardEvent =
  | { readonly type: 'order'; readonly data: Order }
  | { readonly type: 'board'; readonly data: { readonly orders: readonly Order[]; readonly isGap: boolean } };
