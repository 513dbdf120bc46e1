// Thumbnails from sprite sheets, each of which is decoded when one of its images is first shown.
import { readBlock } from "./blocks.mjs";

const TILES = 16;

/** Return where an image lies: its sheet, and the left and upper edge of its tile. */
export function tileOf(image, size) {
  const place = image % (TILES * TILES);
  return { sheet: Math.floor(image / (TILES * TILES)), x: (place % TILES) * size, y: Math.floor(place / TILES) * size };
}

/** Return width and height of an image of this aspect whose longer side is `side`. */
export function sizeOf(aspect, side) {
  return aspect >= 1 ? [side, Math.max(1, Math.round(side / aspect))] : [Math.max(1, Math.round(side * aspect)), side];
}

export class Sprites {
  constructor(thumbnails, textOf) {
    this.thumbnails = thumbnails;
    this.textOf = textOf;
    this.sheets = new Map();
  }

  sheet(number) {
    if (!this.sheets.has(number)) {
      const blob = readBlock(this.thumbnails.sheets[number], this.textOf);
      this.sheets.set(number, blob.then((content) => createImageBitmap(content)));
    }
    return this.sheets.get(number);
  }

  /** Draw an image into a canvas of the page; its longer side gets `side` CSS pixels. */
  async draw(canvas, image, side) {
    if (!this.thumbnails) return;
    const { size, aspects } = this.thumbnails;
    const [width, height] = sizeOf(aspects[image], side);
    const density = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [width * density, height * density];
    [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
    canvas.dataset.image = image;
    const { sheet, x, y } = tileOf(image, size);
    const bitmap = await this.sheet(sheet);
    if (canvas.dataset.image !== String(image)) return; // the pointer has moved on
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, x, y, size, size, 0, 0, canvas.width, canvas.height);
    canvas.dataset.drawn = image;
  }
}
