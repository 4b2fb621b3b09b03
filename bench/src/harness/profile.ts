export type ProfileName = 'smoke' | 'quick' | 'full' | 'record';

/** How long everything takes. */
export interface Profile {
  readonly name: ProfileName;
  readonly rounds: number;
  /** For each cell that runs for a time. */
  readonly millis: number;
  /** So many parts of that time are looked at separately, and the middle one counts. */
  readonly slices: number;
  readonly warmUpMillis: number;
  /** How long the warm-up goes on at most if it has to reach a number of operations, and how much of that number it has to. */
  readonly heatMillis: number;
  readonly heat: number;
  /** How long a cell waits for others to leave the machine alone. */
  readonly patienceMillis: number;
  /** For the subjects that a suite measures only occasionally; at most `rounds`. */
  readonly occasionalRounds: number;
  /** A cell during which others used the machine is measured again, up to so many times in all. */
  readonly attempts: number;
  /** No count of a workload is larger. */
  readonly maxCount: number;
}

export const PROFILES: Readonly<Record<ProfileName, Profile>> = {
  /** Only shows that everything runs. */
  smoke: {
    name: 'smoke',
    rounds: 1,
    occasionalRounds: 1,
    millis: 2,
    slices: 1,
    warmUpMillis: 0,
    heatMillis: 0,
    heat: 0,
    patienceMillis: 0,
    attempts: 1,
    maxCount: 10,
  },
  quick: {
    name: 'quick',
    rounds: 3,
    occasionalRounds: 1,
    millis: 200,
    slices: 5,
    warmUpMillis: 100,
    heatMillis: 2_500,
    heat: 0.35,
    patienceMillis: 0,
    attempts: 1,
    maxCount: Infinity,
  },
  /** A quarter of an hour for all suites. */
  full: {
    name: 'full',
    rounds: 2,
    occasionalRounds: 1,
    millis: 250,
    slices: 5,
    warmUpMillis: 100,
    heatMillis: 2_500,
    heat: 0.4,
    patienceMillis: 100,
    attempts: 1,
    maxCount: Infinity,
  },
  /** What is published: an hour for all suites. */
  record: {
    name: 'record',
    rounds: 7,
    occasionalRounds: 2,
    millis: 400,
    slices: 5,
    warmUpMillis: 250,
    heatMillis: 6_000,
    heat: 1,
    patienceMillis: 500,
    attempts: 2,
    maxCount: Infinity,
  },
};
