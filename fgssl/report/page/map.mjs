// One map on the page: a canvas of points, one above it for marks, and what pointer and keys do on it.
import { neighborsOf } from "./blocks.mjs";
import { element, oncePerFrame } from "./elements.mjs";
import { fitView, lassoed, nearest, panBy, screenOf, towards, zoomAt } from "./geometry.mjs";
import { disc, paint, radiusOf, ring } from "./raster.mjs";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const REACH = 10;

export class MapView {
  constructor(explorer, map) {
    this.explorer = explorer;
    this.map = map;
    this.points = element("canvas", { className: "points" });
    this.marks = element("canvas", {
      className: "marks", tabIndex: 0, role: "application",
      "aria-label": `Map of ${map.title}`, "aria-describedby": explorer.helpId,
    });
    this.paper = element("img", { className: "paper", alt: `Map of ${map.title}` });
    this.stage = element("div", { className: "stage" }, this.points, this.marks, this.paper);
    this.corners = null;
    this.drag = null;
    this.redraw = oncePerFrame(() => this.drawPoints());
    this.redrawMarks = oncePerFrame(() => this.drawMarks());
    for (const name of ["pointerdown", "pointermove", "pointerup", "pointerleave", "wheel", "dblclick", "keydown"]) {
      this.marks.addEventListener(name, (event) => this[name](event), { passive: false });
    }
    new ResizeObserver(() => this.resize()).observe(this.stage);
  }

  resize() {
    if ("print" in document.documentElement.dataset) return; // paper shows the canvases as they are
    const { clientWidth, clientHeight } = this.stage;
    const density = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(clientWidth * density), Math.round(clientHeight * density)];
    if (!width || !height || (width === this.width && height === this.height)) return;
    const before = this.view && { scale: this.view.scale / this.fitted.scale, width: this.width, height: this.height };
    for (const canvas of [this.points, this.marks]) [canvas.width, canvas.height] = [width, height];
    Object.assign(this, { width, height, density });
    this.frame = new ImageData(width, height);
    this.pixels = new Uint32Array(this.frame.data.buffer);
    this.fitted = fitView(this.map.points, width, height, 24 * density);
    if (!before || before.scale === 1) this.view = this.fitted;
    else this.view = panBy(this.view, (width - before.width) / 2, (height - before.height) / 2);
    this.drawPoints();
  }

  drawPoints() {
    if (!this.view) return;
    const { explorer, map, view, pixels, width, height } = this;
    const radius = radiusOf(explorer.embedding.count, view.scale / this.fitted.scale, this.density);
    const stamp = disc(radius);
    pixels.fill(0xff000000 | explorer.background);
    paint(pixels, width, height, map.points, view, explorer.faded, explorer.colors, stamp, 26);
    const opacity = explorer.embedding.count > 4000 ? 255 : 230; // blending every pixel of many points takes too long
    paint(pixels, width, height, map.points, view, explorer.visible, explorer.colors, stamp, opacity);
    if (explorer.marksOutliers) {
      const outer = ring(radius + 2 * this.density, 1.25 * this.density);
      paint(pixels, width, height, map.points, view, explorer.visibleOutliers, explorer.ringColors, outer);
    }
    this.points.getContext("2d").putImageData(this.frame, 0, 0);
    this.drawMarks();
  }

  /** Draw for paper: as a picture, since Chromium prints no pixels that were put into a canvas. */
  drawForPrint() {
    this.drawPoints();
    const copy = element("canvas", { width: this.width, height: this.height });
    const context = copy.getContext("2d");
    for (const layer of [this.points, this.marks]) context.drawImage(layer, 0, 0);
    this.paper.src = copy.toDataURL();
  }

  drawMarks() {
    if (!this.view) return;
    const { explorer, density } = this;
    const context = this.marks.getContext("2d");
    context.clearRect(0, 0, this.width, this.height);
    const radius = radiusOf(explorer.embedding.count, this.view.scale / this.fitted.scale, density);
    const circle = (images, color, more, line) => {
      context.beginPath();
      for (const image of images) {
        const [x, y] = screenOf(this.map.points, this.view, image);
        context.moveTo(x + radius + more * density, y);
        context.arc(x, y, radius + more * density, 0, 2 * Math.PI);
      }
      [context.strokeStyle, context.lineWidth] = [color, line * density];
      context.stroke();
    };
    const { ink, accent } = explorer.theme;
    circle(explorer.found, ink, 2, 1.5);
    circle(explorer.selected, accent, 1.5, 1.75);
    for (const [place, image] of explorer.pins.entries()) this.numberPin(context, place + 1, image, radius, ink);
    if (explorer.hovered >= 0) {
      this.drawNeighbors(context, explorer.hovered, ink);
      circle([explorer.hovered], ink, 3, 2.25);
    }
    if (this.corners) this.drawLasso(context, accent);
  }

  numberPin(context, number, image, radius, ink) {
    const [x, y] = screenOf(this.map.points, this.view, image);
    const { density } = this;
    context.beginPath();
    context.arc(x, y - radius - 11 * density, 8 * density, 0, 2 * Math.PI);
    context.fillStyle = ink;
    context.fill();
    context.fillStyle = this.explorer.theme.paper;
    context.font = `600 ${11 * density}px system-ui, sans-serif`;
    [context.textAlign, context.textBaseline] = ["center", "middle"];
    context.fillText(String(number), x, y - radius - 10.5 * density);
  }

  drawNeighbors(context, image, ink) {
    context.beginPath();
    const from = screenOf(this.map.points, this.view, image);
    for (const { index } of neighborsOf(this.map, image)) {
      if (index === null) continue;
      context.moveTo(...from);
      context.lineTo(...screenOf(this.map.points, this.view, index));
    }
    [context.strokeStyle, context.lineWidth, context.globalAlpha] = [ink, this.density, 0.5];
    context.stroke();
    context.globalAlpha = 1;
  }

  drawLasso(context, accent) {
    context.beginPath();
    for (const corner of this.corners) context.lineTo(...corner);
    context.closePath();
    [context.strokeStyle, context.fillStyle, context.lineWidth] = [accent, accent, 1.5 * this.density];
    context.stroke();
    context.globalAlpha = 0.12;
    context.fill();
    context.globalAlpha = 1;
  }

  at(event) {
    const box = this.marks.getBoundingClientRect();
    return [(event.clientX - box.left) * this.density, (event.clientY - box.top) * this.density];
  }

  setView(view) {
    const zoom = view.scale / this.fitted.scale;
    if (zoom < 0.5 || zoom > 400) return;
    this.view = view;
    this.redraw();
  }

  reset() {
    this.setView(this.fitted);
  }

  zoom(factor) {
    this.setView(zoomAt(this.view, factor, this.width / 2, this.height / 2));
  }

  /** Move an image into sight if it is outside. */
  reveal(image) {
    const [x, y] = screenOf(this.map.points, this.view, image);
    if (x >= 0 && y >= 0 && x <= this.width && y <= this.height) return;
    this.setView(panBy(this.view, this.width / 2 - x, this.height / 2 - y));
  }

  pointerdown(event) {
    if (event.button !== 0) return;
    this.marks.setPointerCapture(event.pointerId);
    const start = this.at(event);
    this.drag = { start, view: this.view, moved: false };
    if (event.shiftKey || this.explorer.lassoes) this.corners = [start];
  }

  pointermove(event) {
    const [x, y] = this.at(event);
    if (!this.drag) {
      const image = nearest(this.map.points, this.view, this.explorer.visible, x, y, REACH * this.density);
      this.marks.classList.toggle("over", image >= 0);
      this.explorer.hover(image, event);
      return;
    }
    const [right, down] = [x - this.drag.start[0], y - this.drag.start[1]];
    if (Math.hypot(right, down) > 3 * this.density) this.drag.moved = true;
    if (this.corners) { this.corners.push([x, y]); this.redrawMarks(); return; }
    if (this.drag.moved) { this.explorer.hover(-1); this.setView(panBy(this.drag.view, right, down)); }
  }

  pointerup(event) {
    const { drag, corners } = this;
    [this.drag, this.corners] = [null, null];
    if (!drag) return;
    if (corners && drag.moved) {
      this.explorer.select(lassoed(this.map.points, this.view, this.explorer.visible, corners));
    } else if (!drag.moved) {
      const image = nearest(this.map.points, this.view, this.explorer.visible, ...this.at(event), REACH * this.density);
      if (image >= 0) this.explorer.pin(image);
    }
  }

  pointerleave() {
    if (!this.drag) this.explorer.hover(-1);
  }

  wheel(event) {
    event.preventDefault();
    this.setView(zoomAt(this.view, Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...this.at(event)));
  }

  dblclick(event) {
    this.setView(zoomAt(this.view, 2, ...this.at(event)));
  }

  keydown(event) {
    const { explorer } = this;
    const arrow = ARROWS[event.key];
    const actions = {
      "+": () => this.zoom(1.4), "=": () => this.zoom(1.4), "-": () => this.zoom(1 / 1.4), 0: () => this.reset(),
      Enter: () => explorer.hovered >= 0 && explorer.pin(explorer.hovered),
      " ": () => explorer.hovered >= 0 && explorer.toggle(explorer.hovered),
      n: () => explorer.hovered >= 0 && explorer.select(this.neighborhood(explorer.hovered)),
      l: () => explorer.setLasso(!explorer.lassoes), Escape: () => explorer.clear(),
    };
    const action = arrow ? () => this.arrow(arrow, event.shiftKey) : actions[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  }

  arrow([right, down], shift) {
    const { explorer } = this;
    if (shift) { this.setView(panBy(this.view, -right * 60 * this.density, -down * 60 * this.density)); return; }
    const from = explorer.hovered;
    const next = from >= 0 ? towards(this.map.points, this.view, explorer.visible, from, right, down)
      : nearest(this.map.points, this.view, explorer.visible, this.width / 2, this.height / 2, Infinity);
    if (next < 0) return;
    this.reveal(next);
    const box = this.marks.getBoundingClientRect();
    const [x, y] = screenOf(this.map.points, this.view, next);
    explorer.hover(next, { clientX: box.left + x / this.density, clientY: box.top + y / this.density });
    explorer.announceImage(next);
  }

  neighborhood(image) {
    return [image, ...neighborsOf(this.map, image).map(({ index }) => index).filter((index) => index !== null)];
  }
}
