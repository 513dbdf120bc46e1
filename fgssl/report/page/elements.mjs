// Elements of the page. Text goes in as text nodes only, so that no name of a class or a file becomes markup.

/** Make an element with properties (`data`, `aria-...`, `on...`) and children, which are elements or texts. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "data") Object.assign(made.dataset, value);
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

export function button(text, action, properties = {}) {
  return element("button", { type: "button", onclick: action, ...properties }, text);
}

/** Draw at the next frame, once for any number of calls. */
export function oncePerFrame(action) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; action(); });
  };
}

/** Write a number with about four digits. */
export const short = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(4))) : "–");
