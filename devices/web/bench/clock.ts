/** Timing calls. Browsers make their clock coarse: calls that are short against its step are timed in batches. */

const STEPS = 100;
/** A batch lasts at least so many steps of the clock: it is then read to a hundredth. */
const LARGEST_BATCH = 1 << 14;

/** Batches one after the other that must last so. */
const LONG_ENOUGH = 5;

/** How long a scenario is measured: at least so many warm calls, and at least so many seconds. */
export interface Limits {
  calls: number;
  seconds: number;
}

/** Raw times of a scenario; those who read them find and leave out the warm-up. */
export interface Times {
  first_ns: number;
  /** Calls that were timed together. */
  batch: number;
  /** Nanoseconds a call, one for every batch. */
  times_ns: number[];
}

/** The smallest step that the clock was seen to make, in nanoseconds. */
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

/** The action's result and how many milliseconds it took. */
export async function timed<T>(action: () => Promise<T>): Promise<[T, number]> {
  const start = performance.now();
  const result = await action();
  return [result, performance.now() - start];
}

/** Calls of one kind, `prepare` outside the clock, in batches that the clock can tell. */
export class Stopwatch<T> {
  /** Calls a batch. */
  batch = 1;
  readonly #prepare: () => T;
  readonly #call: (subject: T) => Promise<unknown>;

  constructor(prepare: () => T, call: (subject: T) => Promise<unknown>) {
    this.#prepare = prepare;
    this.#call = call;
  }

  /** Find how many calls a batch must have. */
  async adjust(): Promise<void> {
    const least = STEPS * clockStep();
    // A slow one alone may have been interrupted, or compiled meanwhile.
    for (let enough = 0; enough < LONG_ENOUGH && this.batch < LARGEST_BATCH; enough++) {
      if ((await this.lap()) * this.batch < least) {
        this.batch *= 2;
        enough = -1;
      }
    }
  }

  /** Nanoseconds a call, of one batch. */
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
 * Time calls until both limits are reached. Twice the calls are made, since at most half of them is warm-up; some of
 * the warm-up goes into finding how large a batch must be.
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
