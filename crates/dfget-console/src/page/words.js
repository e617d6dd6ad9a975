// Numbers as people read them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

export function size(bytes) {
  let value = bytes, unit = 0;
  while (value >= 1023.95 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${Math.round(value)} B` : `${value.toFixed(1)} ${UNITS[unit]}`;
}

export const rate = (bytes) => `${size(bytes)}/s`;

export function span(seconds) {
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

export function count(number, one, many) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

// The id of a host is its address and its name.
export function node(id) {
  const named = /^[0-9a-fA-F.:]+-(.+)$/.exec(id);
  return named ? named[1] : id;
}

// A registry without the port that all have.
export function registry(name) {
  return name.replace(/:443$/, "");
}

// The first few of many, in words.
export function few(all, most) {
  const left = all.length - most;
  return left > 1 ? `${all.slice(0, most).join(", ")} and ${left} more` : all.join(", ");
}

export function percent(part, whole) {
  return whole > 0 ? Math.min(100, Math.floor((part * 100) / whole)) : 0;
}
