// Figures, ages and times as people read them. What is not known is a dash, never a nought.

import { h } from "./dom.js";

export const UNKNOWN = "–";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

export const known = (value) => value !== null && value !== undefined;

/** 12,345 */
export const count = (value) => (known(value) ? whole.format(value) : UNKNOWN);

/** Things a second, a decimal below ten: 0/s, 2.5/s, 40/s. */
export function rate(value) {
  if (!known(value)) return UNKNOWN;
  return `${value > 0 && value < 9.95 ? tenth.format(value) : whole.format(value)}/s`;
}

/** `one dead letter`, `2 dead letters` */
export const counted = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

/** A time span from milliseconds: 34 ms, 1.2 s, 5 min, 3 h. */
export function span(ms) {
  if (!known(ms)) return UNKNOWN;
  if (ms < 1_000) return `${whole.format(ms)} ms`;
  const units = [
    [60_000, 1_000, "s"],
    [3_600_000, 60_000, "min"],
    [172_800_000, 3_600_000, "h"],
    [Infinity, 86_400_000, "days"],
  ];
  const [, size, unit] = units.find(([below]) => ms < below);
  const value = ms / size;
  return `${value < 9.95 ? tenth.format(value) : whole.format(value)} ${unit}`;
}

/** The same from seconds. */
export const seconds = (value) => span(known(value) ? value * 1_000 : value);

/** 1.5 KiB */
export function bytes(value) {
  if (!known(value)) return UNKNOWN;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = value > 0 ? Math.min(units.length - 1, Math.floor(Math.log2(value) / 10)) : 0;
  return `${step ? tenth.format(value / 1024 ** step) : whole.format(value)} ${units[step]}`;
}

/** 0.42 → 42 % */
export const percent = (share) => (known(share) ? `${whole.format(share * 100)} %` : UNKNOWN);

/** A moment of the reader's own clock; the full one, with its date, on hover. */
export function time(written) {
  const at = new Date(written ?? NaN);
  if (Number.isNaN(at.getTime())) return h("span", { class: "faint" }, UNKNOWN);
  const isToday = at.toDateString() === new Date().toDateString();
  const text = isToday ? clock.format(at) : `${day.format(at)} ${clock.format(at)}`;
  return h("time", { datetime: written, title: `${written}` }, text);
}

/** 1.20 EUR, digits as they were sent. */
export const money = (amount, currency) => (known(amount) ? [amount, currency].filter(known).join(" ") : UNKNOWN);

/** Where a store keeps what it has. */
export const store = (kind) => ({ redis: "Redis", postgres: "PostgreSQL", embedded: "a file" })[kind] ?? "–";
