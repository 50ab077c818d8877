/** Sustained load: a device that gets hot lowers its clock. */

import type { Stopwatch } from "./clock.ts";

const WINDOW_S = 1;

/** The figures of about one second of calls. */
export interface Window {
  /** Seconds from the first call to the window's first. */
  at_s: number;
  count: number;
  p50_ms: number;
}

/** Call without a pause for `seconds`, and return one window per second. */
export async function sustained<T>(watch: Stopwatch<T>, seconds: number): Promise<Window[]> {
  await watch.lap();
  await watch.adjust();
  const windows: Window[] = [];
  const started = performance.now();
  const passed = () => (performance.now() - started) / 1e3;
  while (passed() < seconds) {
    const at_s = passed();
    const times: number[] = [];
    while (passed() < at_s + WINDOW_S) {
      times.push(await watch.lap());
    }
    windows.push({ at_s, count: times.length * watch.batch, p50_ms: median(times) / 1e6 });
  }
  return windows;
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
