/** Tells the parent that the application is there, and ends. */
export function tell(start) {
  void start().then(() => process.send({ bytes: process.memoryUsage.rss() }, () => process.exit(0)));
}

/** Of the server. */
export const connectionString = process.argv[2];
