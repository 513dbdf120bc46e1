// The interactive embedding: one or two maps, what is shown of them, and what is selected and pinned in all of them.
import { isOutlier, readEmbedding } from "./blocks.mjs";
import { centroids, classColors, css, palette, rampColor, range, swapped } from "./colors.mjs";
import { button, element, short } from "./elements.mjs";
import { MapView } from "./map.mjs";
import { byChange, card, contactSheet, describe, labelsOf, LISTED, selectionTable } from "./pins.mjs";
import { Sprites } from "./sprites.mjs";

const HELP = "Drag to pan, wheel to zoom, Shift-drag for a lasso, click to pin. Keys: arrows move from image to image, "
  + "Shift and arrows pan, + − 0 zoom, Enter pins, Space selects, N selects the nearest neighbors, L lasso, "
  + "Escape clears.";
const MOST_PINS = 6;
const ONLY_COLOR = 0xb27200; // of images without labels

const counted = (images) => `${images.length.toLocaleString("en")} ${images.length === 1 ? "image" : "images"}`;

/** Return the images whose id contains the words of a query, in any order and case. */
export function search(ids, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const lower = (id) => id.toLowerCase();
  return ids.flatMap((id, image) => (words.every((word) => lower(id).includes(word)) ? [image] : []));
}

/** Split images into what the filter shows and what it fades. */
export function filtered(count, labels, hidden, keep = () => true) {
  const [visible, faded] = [[], []];
  for (let image = 0; image < count; image++) {
    const shown = !hidden.has(labels?.[image]) && keep(image);
    (shown ? visible : faded).push(image);
  }
  return { visible: Uint32Array.from(visible), faded: Uint32Array.from(faded) };
}

export class Explorer {
  constructor(root, embedding, textOf) {
    Object.assign(this, {
      root, embedding, sprites: new Sprites(embedding.thumbnails, textOf), helpId: `help-${root.dataset.embedding}`,
      level: 0, attribute: null, hidden: new Set(), only: -1, selected: new Set(), found: [], pins: [], hovered: -1,
      lassoes: false, marksOutliers: true, onlyOutliers: false,
    });
    this.outlier = Uint8Array.from({ length: embedding.count }, (_, image) => isOutlier(embedding, image));
    const outliers = this.outlier.reduce((sum, one) => sum + one, 0);
    this.marksOutliers = 3 * outliers < embedding.count; // rings of many would hide the map
    this.views = embedding.maps.map((map) => new MapView(this, map));
    this.build();
    this.recolor();
    this.views.forEach((view) => view.resize()); // an observer of sizes would call it later
  }

  build() {
    const { embedding } = this;
    const control = (text, input) => element("label", {}, element("span", {}, text), input);
    const check = (text, name) => element("label", { className: "check" }, element("input", {
      type: "checkbox", checked: this[name], data: { option: name },
      onchange: (event) => { this[name] = event.target.checked; this.refilter(); },
    }), text);
    const choices = [...embedding.levels.map((level, place) => [`level ${place}`, level.name]),
      ...embedding.attributes.map((one, place) => [`attribute ${place}`, one.name]),
      ...(embedding.jaccard ? [["jaccard", "shared neighbors (Jaccard)"]] : [])];
    const colorBy = element("select", { data: { control: "color" }, onchange: () => this.colorBy(colorBy.value) },
      ...choices.map(([value, text]) => element("option", { value }, text)));
    const query = element("input", {
      type: "search", placeholder: "part of an image id", data: { control: "search" },
      oninput: () => this.find(query.value), onkeydown: (event) => event.key === "Enter" && this.selectFound(),
    });
    this.lassoButton = button("Lasso", () => this.setLasso(!this.lassoes), {
      "aria-pressed": "false", data: { control: "lasso" },
    });
    const zoom = (text, title, action) =>
      button(text, () => this.views.forEach(action), { "aria-label": title, title });
    const changed = button("Most changed", () => this.selectChanged(), {
      data: { control: "changed" }, hidden: !embedding.jaccard,
    });
    this.legend = element("div", { className: "legend" });
    this.tray = element("div", { className: "pins", "aria-label": "Pinned images" });
    this.chosen = element("div", { className: "selection" });
    this.status = element("div", { className: "status", role: "status", "aria-live": "polite" });
    this.tooltip = element("div", { className: "tooltip", hidden: true }, element("canvas"), element("div"));
    this.root.append(
      element("div", { className: "controls" }, control("Color by", colorBy), control("Search", query),
        element("div", { className: "group" }, this.lassoButton, zoom("+", "Zoom in", (view) => view.zoom(1.4)),
          zoom("−", "Zoom out", (view) => view.zoom(1 / 1.4)), zoom("Reset", "Show all", (view) => view.reset())),
        element("div", { className: "group" }, changed,
          button("Select shown", () => this.select(Array.from(this.visible))),
          button("Clear", () => this.clear(), { data: { control: "clear" } })),
        element("div", { className: "group wide" },
          check("Ring outliers", "marksOutliers"), check("Only outliers", "onlyOutliers"))),
      element("div", { className: "board" }, this.legend,
        element("div", { className: "maps" }, ...this.views.map((view) => this.framed(view)))),
      element("p", { className: "help", id: this.helpId }, HELP), this.status, this.tray, this.chosen, this.tooltip);
  }

  framed(view) {
    const trust = `trustworthiness ${view.map.trustworthiness.toFixed(3)}`;
    return element("figure", {}, element("figcaption", {}, element("b", {}, view.map.title), " ",
      element("span", { title: "Share of neighborhoods in the plane that are neighborhoods in feature space" },
        `${this.embedding.count.toLocaleString("en")} images · ${trust}`)), view.stage);
  }

  colorBy(choice) {
    const [kind, place] = choice.split(" ");
    if (kind === "level" && Number(place) !== this.level) [this.level, this.hidden] = [Number(place), new Set()];
    const { attributes, jaccard } = this.embedding;
    this.attribute = { level: null, attribute: attributes[place], jaccard: { name: "Jaccard", values: jaccard } }[kind];
    this.recolor();
  }

  recolor() {
    const { embedding } = this;
    const level = embedding.levels[this.level];
    const style = getComputedStyle(this.root);
    const color = (name) => style.getPropertyValue(name).trim();
    const names = ["ink", "paper", "accent"];
    this.theme = Object.fromEntries(names.map((name) => [name, color(`--${name}`)]));
    const packed = (name) => swapped(parseInt(color(name).slice(1), 16));
    this.background = packed("--stage");
    this.ringColors = new Uint32Array(embedding.count).fill(packed("--warning"));
    const centers = level ? centroids(embedding.maps[0].points, level.labels, level.classes.length) : [];
    this.classColors = classColors(centers, palette((this.background & 255) < 128));
    const values = this.attribute?.values;
    const [low, high] = values ? range(values) : [0, 1];
    const colorOf = (image) => {
      if (values) return rampColor((values[image] - low) / (high - low || 1));
      return level ? this.classColors[level.labels[image]] : ONLY_COLOR;
    };
    this.colors = Uint32Array.from({ length: embedding.count }, (_, image) => colorOf(image));
    this.buildLegend(low, high);
    this.refilter();
  }

  buildLegend(low, high) {
    const level = this.embedding.levels[this.level];
    const parts = [];
    if (this.attribute) {
      const steps = Array.from({ length: 9 }, (_, step) => element("i", { data: { color: css(rampColor(step / 8)) } }));
      steps.forEach((step) => { step.style.background = step.dataset.color; });
      parts.push(element("h4", {}, this.attribute.name), element("div", { className: "ramp" }, ...steps),
        element("div", { className: "ends" }, element("span", {}, short(low)), element("span", {}, short(high))));
    }
    if (level) parts.push(...this.classList(level));
    this.legend.replaceChildren(...parts);
  }

  classList(level) {
    const counts = new Uint32Array(level.classes.length);
    for (const label of level.labels) counts[label]++;
    const items = level.classes.map((name, label) => this.classItem(name, label, counts[label]))
      .filter((_, label) => counts[label]);
    const narrow = element("input", {
      type: "search", placeholder: `filter ${items.length} classes`, "aria-label": `Filter the list of ${level.name}`,
      oninput: () => {
        for (const item of items) item.hidden = !item.dataset.name.includes(narrow.value.toLowerCase());
      },
    });
    const setAll = (shown) => () => {
      const listed = items.filter((item) => !item.hidden);
      for (const item of listed) {
        item.querySelector("input").checked = shown;
        this.show(Number(item.dataset.label), shown);
      }
      this.refilter();
    };
    return [element("h4", {}, level.name), narrow,
      element("div", { className: "group" }, button("All", setAll(true)), button("None", setAll(false))),
      element("ul", {}, ...items)];
  }

  classItem(name, label, count) {
    const swatch = element("i", { className: "swatch" });
    if (!this.attribute) swatch.style.background = css(this.classColors[label]);
    const input = element("input", {
      type: "checkbox", checked: !this.hidden.has(label),
      onchange: () => { this.show(label, input.checked); this.refilter(); },
    });
    const stress = (which) => () => { this.only = which; this.refilter(); };
    const data = { label, name: name.toLowerCase() };
    return element("li", { data, title: name, onmouseenter: stress(label), onmouseleave: stress(-1) },
      element("label", {}, input, swatch, element("span", {}, name), element("small", {}, String(count))));
  }

  show(label, shown) {
    if (shown) this.hidden.delete(label); else this.hidden.add(label);
  }

  refilter() {
    const labels = this.embedding.levels[this.level]?.labels;
    const keep = (image) =>
      (!this.onlyOutliers || this.outlier[image]) && (this.only < 0 || labels[image] === this.only);
    Object.assign(this, filtered(this.embedding.count, labels, this.hidden, keep));
    this.visibleOutliers = this.visible.filter((image) => this.outlier[image]);
    this.views.forEach((view) => view.redraw());
  }

  redrawNow() {
    this.recolor();
    this.views.forEach((view) => view.drawPoints());
  }

  drawForPrint() {
    this.recolor();
    this.views.forEach((view) => view.drawForPrint());
  }

  markAll() {
    this.views.forEach((view) => view.redrawMarks());
  }

  announce(text) {
    this.status.textContent = text;
  }

  announceImage(image) {
    this.announce(describe(this.embedding, image));
  }

  setLasso(lassoes) {
    this.lassoes = lassoes;
    this.lassoButton.setAttribute("aria-pressed", String(lassoes));
    this.root.classList.toggle("lassoing", lassoes);
    this.announce(lassoes ? "Lasso on: drag around images" : "Lasso off: drag to pan");
  }

  hover(image, event = null) {
    const { tooltip, embedding } = this;
    if (image !== this.hovered) { this.hovered = image; this.markAll(); }
    tooltip.hidden = image < 0 || !event;
    if (tooltip.hidden) return;
    const [picture, text] = tooltip.children;
    if (tooltip.dataset.image !== String(image)) {
      tooltip.dataset.image = image;
      const labels = labelsOf(embedding, image).map((label) => element("span", {}, label));
      text.replaceChildren(element("b", {}, embedding.ids[image]), ...labels);
      if (this.outlier[image]) text.append(element("em", {}, "outlier"));
      this.sprites.draw(picture, image, 128);
    }
    const { offsetWidth, offsetHeight } = tooltip;
    tooltip.style.left = `${Math.max(8, Math.min(event.clientX + 18, window.innerWidth - offsetWidth - 12))}px`;
    tooltip.style.top = `${Math.max(8, Math.min(event.clientY + 18, window.innerHeight - offsetHeight - 12))}px`;
  }

  pin(image) {
    if (this.pins.includes(image)) { this.unpin(image); return; }
    this.pins = [...this.pins, image].slice(-MOST_PINS);
    this.tray.replaceChildren(...this.pins.map((one) => card(this, one)));
    this.markAll();
    this.announce(`Pinned ${describe(this.embedding, image)}`);
  }

  unpin(image) {
    this.pins = this.pins.filter((one) => one !== image);
    this.tray.replaceChildren(...this.pins.map((one) => card(this, one)));
    this.markAll();
    this.announce(`Unpinned ${this.embedding.ids[image]}`);
  }

  toggle(image) {
    const images = new Set(this.selected);
    if (!images.delete(image)) images.add(image);
    this.select([...images]);
  }

  select(images) {
    this.selected = new Set(images);
    const ordered = byChange(this.embedding, images);
    const number = counted(ordered);
    const listed = ordered.length > LISTED ? `, the first ${LISTED} shown` : "";
    const order = this.embedding.jaccard ? ", most changed first" : "";
    this.chosen.replaceChildren(...(ordered.length ? [element("h3", {}, `Selection: ${number}${order}${listed}`),
      element("div", { className: "contacts" }, ...contactSheet(this, ordered)),
      element("details", { open: ordered.length <= 40 }, element("summary", {}, "Table of the selection"),
        element("div", { className: "scroll" }, selectionTable(this, ordered)))] : []));
    this.markAll();
    this.announce(`${number} selected`);
  }

  clear() {
    this.found = [];
    this.hover(-1);
    this.root.querySelector("[data-control=search]").value = "";
    this.select([]);
  }

  find(query) {
    this.found = search(this.embedding.ids, query);
    this.markAll();
    this.announce(query.trim() ? `${counted(this.found)} found` : "");
  }

  selectFound() {
    if (!this.found.length) return;
    this.select(this.found);
    this.views.forEach((view) => view.reveal(this.found[0]));
  }

  selectChanged() {
    this.select(byChange(this.embedding, Array.from(this.visible)).slice(0, 60));
  }
}

export async function openExplorer(root, description, textOf) {
  return new Explorer(root, await readEmbedding(description, textOf), textOf);
}
