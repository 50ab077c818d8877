/** Timing of calls. Browsers have a coarse clock: short calls are timed in batches. */

/** Minimum length of a batch in steps of the clock, which gives a precision of 1 %. */
const STEPS = 100;
const LARGEST_BATCH = 1 << 14;

/** Number of consecutive batches that must reach the minimum length. */
const LONG_ENOUGH = 5;

/** The minimum length of a scenario: warm calls, and seconds. Both must be reached. */
export interface Limits {
  calls: number;
  seconds: number;
}

/** Raw times of a scenario; their reader finds and removes the warm-up. */
export interface Times {
  first_ns: number;
  /** Number of calls that were timed together. */
  batch: number;
  /** Nanoseconds per call, one value for every batch. */
  times_ns: number[];
}

/** Return the smallest observed step of the clock, in nanoseconds. */
export function clockStep(): number {
  let smallest = Infinity;
  for (let seen = 0; seen < 50; seen++) {
    const start = performance.now();
    let now = start;
    while (now === start) {
      now = performance.now();
    }
    smallest = Math.min(smallest, now - start);
  }
  return Math.round(smallest * 1e6);
}

/** Return an action's result and its duration in milliseconds. */
export async function timed<T>(action: () => Promise<T>): Promise<[T, number]> {
  const start = performance.now();
  const result = await action();
  return [result, performance.now() - start];
}

/** A timer of calls in batches that are long enough for the clock; `prepare` is not timed. */
export class Stopwatch<T> {
  /** Number of calls in a batch. */
  batch = 1;
  readonly #prepare: () => T;
  readonly #call: (subject: T) => Promise<unknown>;

  constructor(prepare: () => T, call: (subject: T) => Promise<unknown>) {
    this.#prepare = prepare;
    this.#call = call;
  }

  /** Increase the batch until it is long enough for the clock. */
  async adjust(): Promise<void> {
    const least = STEPS * clockStep();
    // One slow batch is not enough: it may have been interrupted, or included compilation.
    for (let enough = 0; enough < LONG_ENOUGH && this.batch < LARGEST_BATCH; enough++) {
      if ((await this.lap()) * this.batch < least) {
        this.batch *= 2;
        enough = -1;
      }
    }
  }

  /** Time one batch and return nanoseconds per call. */
  async lap(): Promise<number> {
    const subjects = Array.from({ length: this.batch }, this.#prepare);
    const start = performance.now();
    for (const subject of subjects) {
      await this.#call(subject);
    }
    return Math.round(((performance.now() - start) * 1e6) / this.batch);
  }
}

/**
 * Time calls until both limits are reached. Twice the requested number is timed, because the warm-up is at most half of
 * them; a part of the warm-up determines the size of a batch.
 */
export async function timeCalls<T>(watch: Stopwatch<T>, limits: Limits): Promise<Times> {
  const first_ns = await watch.lap();
  await watch.adjust();
  const times_ns: number[] = [];
  const started = performance.now();
  while (times_ns.length < 2 * limits.calls || performance.now() - started < limits.seconds * 1e3) {
    times_ns.push(await watch.lap());
  }
  return { first_ns, times_ns, batch: watch.batch };
}
