const WIDTH = 20;

/** How much of a long task is done, as a picture of fixed width. */
export function progressBar(done: number, total: number): string {
  const filled = Math.min(WIDTH, Math.floor((WIDTH * done) / Math.max(1, total)));
  return `[${'#'.repeat(filled)}${'.'.repeat(WIDTH - filled)}]`;
}
