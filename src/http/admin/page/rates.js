// Rates as the flow and the charts show them, so that both say the same: over ten seconds.

import { known } from "./format.js";

/** Samples, each of a second. What nodes report as loaded is of as long a time already. */
const SMOOTHED = 10;

/** Of each sample what a field of it is: the mean of `over` samples where it is accepted events, of those that know it. */
export function column(samples, field, over = SMOOTHED) {
  const values = samples.map((sample) => sample[field] ?? null);
  return field === "accepted_per_second" ? values.map((_, at) => mean(values.slice(Math.max(0, at + 1 - over), at + 1))) : values;
}

function mean(values) {
  const some = values.filter(known);
  return some.length ? some.reduce((sum, value) => sum + value, 0) / some.length : null;
}
