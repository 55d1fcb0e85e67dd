// Times in the viewer's zone, and expirations that count down.

const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
export const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export function localise(root = document) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const when = new Date(time.dateTime);
    time.textContent = exact.format(when);
    time.title = full.format(when);
  }
  countDown(root);
}

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

export function left(seconds) {
  if (seconds <= 0) return "expired";
  const at = UNITS.findIndex(([, length]) => seconds >= length);
  const [unit, length] = UNITS[Math.max(0, at)];
  const whole = Math.floor(seconds / length);
  const next = UNITS[at + 1];
  const rest = next ? Math.floor((seconds - whole * length) / next[1]) : 0;
  return `in ${whole} ${unit}${rest ? ` ${rest} ${next[0]}` : ""}`;
}

export function countDown(root = document) {
  for (const place of root.querySelectorAll("[data-expires]")) {
    const at = Number(place.dataset.expires);
    place.textContent = left(at - Date.now() / 1000);
    place.title = full.format(new Date(at * 1000));
  }
}

// The value that a field for a time takes: local, without a zone.
export function localField(seconds) {
  const when = new Date(seconds * 1000);
  return new Date(when - when.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
}
