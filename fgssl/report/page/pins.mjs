// What is known of images: cards of pinned ones side by side, the contact sheet, and the table of the selection.
import { isOutlier, neighborsOf } from "./blocks.mjs";
import { button, element, short } from "./elements.mjs";

export const LISTED = 240;

export const labelsOf = (embedding, image) => embedding.levels.map((level) => level.classes[level.labels[image]]);

/** Describe an image in one line, as the live region reads it. */
export function describe(embedding, image) {
  const outlier = isOutlier(embedding, image) ? ", outlier" : "";
  return `${embedding.ids[image]}: ${labelsOf(embedding, image).join(", ")}${outlier}`;
}

/** Order images by how much their neighborhood changed, most first; without a second map, as they are. */
export function byChange(embedding, images) {
  const { jaccard } = embedding;
  return jaccard ? [...images].sort((a, b) => jaccard[a] - jaccard[b] || a - b) : images;
}

/** Return a button that shows an image, and pins it. */
function thumbnail(explorer, image, side, note = "") {
  const picture = element("canvas", { width: 1, height: 1 });
  explorer.sprites.draw(picture, image, side);
  const shown = note ? [picture, element("small", {}, note)] : [picture];
  const title = describe(explorer.embedding, image);
  return element("button", {
    type: "button", className: "thumbnail", title, "aria-label": `Pin ${title}`, data: { image },
    onclick: () => explorer.pin(image),
    onmouseenter: () => explorer.hover(image), onfocus: () => explorer.hover(image),
    onmouseleave: () => explorer.hover(-1), onblur: () => explorer.hover(-1),
  }, ...shown);
}

function neighborRow(explorer, map, image) {
  const { embedding } = explorer;
  const [own] = labelsOf(embedding, image);
  const found = neighborsOf(map, image).map(({ index, distance }) => {
    if (index === null) {
      const title = "This image is not on the page";
      return element("span", { className: "absent", title }, "–", element("small", {}, short(distance)));
    }
    const shown = thumbnail(explorer, index, 44, short(distance));
    shown.classList.toggle("foreign", labelsOf(embedding, index)[0] !== own);
    return shown;
  });
  const several = embedding.maps.length > 1;
  return element("div", { className: "neighbors" },
    element("h5", {}, `Nearest in ${several ? map.title : "feature space"} (dashed: of another class)`),
    element("div", {}, ...found));
}

/** Return the card of a pinned image. */
export function card(explorer, image) {
  const { embedding } = explorer;
  const picture = element("canvas", { width: 1, height: 1, role: "img", "aria-label": describe(embedding, image) });
  explorer.sprites.draw(picture, image, 168);
  const facts = embedding.levels.map((level) => [level.name, level.classes[level.labels[image]]]);
  for (const one of embedding.attributes) facts.push([one.name, short(one.values[image])]);
  if (embedding.jaccard) facts.push(["shared neighbors", `Jaccard ${short(embedding.jaccard[image])}`]);
  if (isOutlier(embedding, image)) facts.push(["outlier", "yes"]);
  return element("article", { className: "card", data: { image } },
    button("×", () => explorer.unpin(image), { className: "close", "aria-label": `Unpin ${embedding.ids[image]}` }),
    element("div", { className: "frame" }, picture), element("h4", {}, embedding.ids[image]),
    element("dl", {}, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
    ...embedding.maps.map((map) => neighborRow(explorer, map, image)));
}

export function contactSheet(explorer, images) {
  return images.slice(0, LISTED).map((image) => thumbnail(explorer, image, 64));
}

/** Return the columns of the selection's table: name, text of an image, and whether it is words instead of a number. */
function columns(embedding) {
  const { ids, levels, attributes, jaccard, maps } = embedding;
  const found = [["image", (image) => ids[image], true]];
  for (const level of levels) found.push([level.name, (image) => level.classes[level.labels[image]], true]);
  for (const one of attributes) found.push([one.name, (image) => short(one.values[image])]);
  found.push(["outlier", (image) => (isOutlier(embedding, image) ? "yes" : ""), true]);
  for (const map of maps) {
    const name = maps.length > 1 ? `nearest in ${map.title}` : "nearest";
    found.push([name, (image) => short(neighborsOf(map, image)[0]?.distance)]);
  }
  if (jaccard) found.push(["Jaccard", (image) => short(jaccard[image])]);
  return found;
}

/** Return the table of the selection. */
export function selectionTable(explorer, images) {
  const shown = columns(explorer.embedding);
  const cell = (text, tag, words) => element(tag, words ? { className: "name" } : {}, text);
  const rows = images.slice(0, LISTED).map((image) => element("tr", {}, ...shown.map(([, textOf, words], place) =>
    cell(textOf(image), place ? "td" : "th", words))));
  const head = element("tr", {}, ...shown.map(([name, , words]) => cell(name, "th", words)));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
}
