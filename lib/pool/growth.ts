/** How many connections are dialled at once for `min`, or for a queue when none is open yet. */
const COLD_START = 4;

export interface Demand {
  readonly waiting: number;
  readonly established: number;
  readonly dialling: number;
  /** Connections to keep open whatever the demand. */
  readonly floor: number;
  readonly max: number;
  /** The last dial failed: the server may be down. */
  readonly failing: boolean;
  /** Dials that a queue may have going at once; see {@link nextBurst}. */
  readonly burst: number;
}

/**
 * How many dials to start now. Borrowers do not dial: a connection that comes back usually serves a queue sooner than a
 * new one could. So a queue begins with one dial at a time (four while nothing is open), and is given twice as many
 * each time a dial ends with borrowers still waiting, like TCP's slow start. While the server does not answer, one dial
 * at a time asks whether it is back.
 */
export function dialsToStart(demand: Demand): number {
  const { waiting, established, dialling, floor, max, failing, burst } = demand;
  const room = max - established - dialling;
  const forFloor = Math.min(floor - established, COLD_START) - dialling;
  const allowed = established === 0 ? Math.max(burst, COLD_START) : burst;
  const forQueue = Math.min(waiting, allowed) - dialling;
  const wanted = Math.min(room, Math.max(forFloor, forQueue));
  return Math.max(0, failing ? Math.min(wanted, 1 - dialling) : wanted);
}

/** The burst after a dial has succeeded. */
export function nextBurst(burst: number, waiting: number): number {
  return waiting > 0 ? burst * 2 : 1;
}
