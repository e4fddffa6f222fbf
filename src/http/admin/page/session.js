// The operator's token. Owns where it is kept: for this tab alone, and never in the address bar, the history or a cookie.

const KEY = "orderstream-token";

/** Takes the token of a start-up link (`#token=…`) out of the address; true where there was one. */
export function adopt() {
  const found = /^#token=([^&]+)$/.exec(location.hash);
  if (!found) return false;
  keep(decodeURIComponent(found[1]));
  history.replaceState(null, "", `${location.pathname}#/`);
  return true;
}

/** The token, or null. */
export const token = () => sessionStorage.getItem(KEY);

export const keep = (value) => sessionStorage.setItem(KEY, value);

export const forget = () => sessionStorage.removeItem(KEY);
