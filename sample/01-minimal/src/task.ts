export interface Task {
  readonly id: number;
  readonly title: string;
  readonly createdAt: Date;
}
