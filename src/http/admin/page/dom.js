// Elements from values. Owns the only way in which anything gets into a page: as text or as an attribute, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. `on…` attributes are listeners; `true` sets an attribute, `false`, `null` and `undefined` leave it out. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** Takes the children's place in `element`. */
export function put(element, ...children) {
  element.replaceChildren(...present(children));
  return element;
}

/**
 * As `put`, but what is shown already stays as it stands, so that selections and how far it was scrolled outlive it. For
 * what is said again every second; its listeners are those of the first time.
 */
export function update(element, ...children) {
  become(element, filled(element.cloneNode(false), {}, children));
  return element;
}

function become(element, wanted) {
  const standing = [...element.childNodes];
  const coming = [...wanted.childNodes];
  coming.forEach((child, at) => {
    const stands = standing[at];
    if (!stands) element.append(child);
    else if (stands.isEqualNode(child)) return;
    else if (!stands.cloneNode(false).isEqualNode(child.cloneNode(false))) stands.replaceWith(child);
    else become(stands, child);
  });
  for (const gone of standing.slice(coming.length)) gone.remove();
}

/** Writes text where it differs, so that nothing is selected anew or read again for nothing. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...present(children));
  return element;
}

function present(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}
