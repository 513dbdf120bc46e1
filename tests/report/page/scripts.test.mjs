// Unit tests of the page's pure functions: node --test tests/report/page/scripts.test.mjs
import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { decodeBase64, neighborsOf, readBlock, isOutlier } from "../../../fgssl/report/page/blocks.mjs";
import {
  centroids, classColors, css, GRAY, mix, palette, rampColor, range,
} from "../../../fgssl/report/page/colors.mjs";
import { filtered, search } from "../../../fgssl/report/page/explorer.mjs";
import {
  fitView, inPolygon, lassoed, nearest, panBy, screenOf, towards, zoomAt,
} from "../../../fgssl/report/page/geometry.mjs";
import { short } from "../../../fgssl/report/page/elements.mjs";
import { byChange, describe } from "../../../fgssl/report/page/pins.mjs";
import { disc, paint, radiusOf, ring } from "../../../fgssl/report/page/raster.mjs";
import { sizeOf, tileOf } from "../../../fgssl/report/page/sprites.mjs";

const SQUARE = Float32Array.from([0, 0, 10, 0, 0, 10, 10, 10]);
const ALL = Uint32Array.from([0, 1, 2, 3]);

test("blocks come back as the arrays they were", async () => {
  const packed = (bytes) => gzipSync(bytes).toString("base64");
  const floats = Float32Array.from([1.5, -2, NaN]);
  const block = (text, kind) => readBlock({ block: 0, kind }, () => text);
  assert.deepEqual(await block(packed(Buffer.from(floats.buffer)), "f4"), floats);
  assert.deepEqual(await block(packed(Buffer.from([1, 0, 255, 255])), "u2"), Uint16Array.from([1, 65535]));
  assert.deepEqual(await block(packed(JSON.stringify(["ä", "<script>"])), "json"), ["ä", "<script>"]);
  const picture = await block(Buffer.from([250, 1]).toString("base64"), "webp");
  assert.deepEqual([picture.type, picture.size], ["image/webp", 2]);
  assert.deepEqual(decodeBase64("/wA="), Uint8Array.from([255, 0]));
});

test("a neighbor stored as 0 is not on the page", () => {
  const map = { k: 2, neighbors: [3, 0, 1, 2], distances: [0, 65535, 32767.5, 65535], farthest: 2 };
  assert.deepEqual(neighborsOf(map, 0), [{ index: 2, distance: 0 }, { index: null, distance: 2 }]);
  assert.deepEqual(neighborsOf(map, 1)[0], { index: 0, distance: 1 });
});

test("an outlier of one level in one map is an outlier", () => {
  const map = (...outliers) => ({ outliers: Uint8Array.from(outliers) });
  const embedding = { levels: [{}, {}], maps: [map(0, 0, 0, 0, 0, 0), map(0, 0, 0, 1, 0, 0)] };
  assert.deepEqual([0, 1, 2].map((image) => isOutlier(embedding, image)), [false, true, false]);
});

test("up to eight classes differ in hue, and hundreds have a color each that no near class has", () => {
  for (const dark of [false, true]) assert.equal(new Set(palette(dark)).size, 24);
  const few = classColors(Array.from({ length: 8 }, (_, place) => [place, 0]), palette(false));
  assert.deepEqual(few, palette(false).slice(0, 8));
  const centers = Array.from({ length: 400 }, (_, place) => [place % 20, Math.floor(place / 20)]);
  const colors = classColors(centers, palette(true));
  for (let one = 0; one < 400; one++) {
    for (let other = 0; other < one; other++) {
      const apart = Math.hypot(centers[one][0] - centers[other][0], centers[one][1] - centers[other][1]);
      if (apart < 1.5) assert.notEqual(colors[one], colors[other]);
    }
  }
});

test("a class without images has no center and is gray", () => {
  assert.deepEqual(centroids(SQUARE, [0, 0, 2, 2], 3), [[5, 0], null, [5, 10]]);
  assert.equal(classColors([...Array(9).fill([0, 0]), null], palette(false)).at(-1), GRAY);
});

test("the ramp grows lighter, and what is no number is gray", () => {
  const lightness = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const color = rampColor(share);
    return 0.2126 * (color & 255) + 0.7152 * ((color >> 8) & 255) + 0.0722 * (color >> 16);
  });
  assert.deepEqual(lightness, [...lightness].sort((a, b) => a - b));
  assert.equal(rampColor(NaN), GRAY);
  assert.equal(rampColor(7), rampColor(1));
  assert.deepEqual(range([NaN, 3, -1]), [-1, 3]);
  assert.deepEqual(range([NaN]), [0, 0]);
  assert.equal(mix(0x000000, 0xff8000, 0.5), 0x804000);
  assert.equal(css(0x0000ff), "#ff0000");
});

test("the fitted view holds all points, and a zoom keeps what lies under the pointer", () => {
  const view = fitView(SQUARE, 200, 100, 10);
  for (const image of ALL) {
    const [x, y] = screenOf(SQUARE, view, image);
    assert.ok(x >= 10 && x <= 190 && y >= 10 && y <= 90);
  }
  const [x, y] = screenOf(SQUARE, view, 3);
  assert.deepEqual(screenOf(SQUARE, zoomAt(view, 3, x, y), 3).map(Math.round), [x, y].map(Math.round));
  assert.deepEqual(screenOf(SQUARE, panBy(view, 5, -7), 3), [x + 5, y - 7]);
  assert.ok(Number.isFinite(fitView(Float32Array.from([1, 1]), 100, 100).scale)); // one point
});

test("the pointer finds the nearest image in reach, arrows the next one ahead", () => {
  const view = { scale: 10, x: 0, y: 100 };
  assert.equal(nearest(SQUARE, view, ALL, 97, 4, 8), 3);
  assert.equal(nearest(SQUARE, view, ALL, 50, 50, 8), -1);
  assert.equal(nearest(SQUARE, view, Uint32Array.from([0]), 97, 4, 8), -1); // filtered out
  assert.equal(towards(SQUARE, view, ALL, 0, 1, 0), 1);
  assert.equal(towards(SQUARE, view, ALL, 0, 0, -1), 2); // up on the screen
  assert.equal(towards(SQUARE, view, ALL, 0, -1, 0), -1);
});

test("a lasso holds what lies inside, also of a hollow shape", () => {
  const hollow = [[0, 0], [10, 0], [10, 10], [6, 10], [6, 4], [4, 4], [4, 10], [0, 10]];
  assert.ok(inPolygon(hollow, 2, 8) && inPolygon(hollow, 8, 8) && inPolygon(hollow, 5, 2));
  assert.ok(!inPolygon(hollow, 5, 8) && !inPolygon(hollow, 11, 5));
  assert.deepEqual(lassoed(SQUARE, { scale: 1, x: 0, y: 10 }, ALL, [[-1, -1], [5, -1], [5, 11], [-1, 11]]), [0, 2]);
});

test("paint writes a point's color, and blends its edge with what lies below", () => {
  const pixels = new Uint32Array(11 * 11).fill(0xffffffff);
  const stamp = disc(1.5);
  paint(pixels, 11, 11, Float32Array.from([5, 5]), { scale: 1, x: 0, y: 10 }, [0], [0x0000ff], stamp);
  assert.equal(pixels[5 * 11 + 5], 0xff0000ff);
  const edge = pixels[6 * 11 + 6]; // 1.41 from the center: covered by more than a half
  assert.ok(edge !== 0xffffffff && (edge & 255) === 255 && ((edge >> 8) & 255) < 128);
  assert.equal(pixels[0], 0xffffffff);
});

test("a ring is hollow", () => {
  const covered = new Map(ring(4, 1.25).map(([dx, dy, coverage]) => [`${dx} ${dy}`, coverage]));
  const found = ["4 0", "0 -4", "0 0", "2 0"].map((place) => covered.get(place));
  assert.deepEqual(found, [255, 255, undefined, undefined]);
});

test("a point beyond the edge is left out instead of wrapping around", () => {
  const pixels = new Uint32Array(8 * 8);
  const points = Float32Array.from([0, 4, 7.6, 4, -30, 4, 4, 900]);
  paint(pixels, 8, 8, points, { scale: 1, x: 0, y: 8 }, [0, 1, 2, 3], [1, 1, 1, 1], disc(1.5));
  assert.ok(pixels.every((pixel) => pixel === 0));
});

test("a faded point is nearly the background, and points grow while one zooms in", () => {
  const pixels = new Uint32Array(25).fill(0xffffffff);
  paint(pixels, 5, 5, Float32Array.from([2, 2]), { scale: 1, x: 0, y: 4 }, [0], [0], disc(0.5), 26);
  assert.ok((pixels[12] & 255) > 220 && (pixels[12] & 255) < 240);
  assert.ok(radiusOf(50000, 1, 1) < radiusOf(300, 1, 1));
  assert.ok(radiusOf(300, 8, 1) > radiusOf(300, 1, 1));
});

test("tiles lie row by row, and a thumbnail gets its aspect back", () => {
  assert.deepEqual(tileOf(256 + 17, 64), { sheet: 1, x: 64, y: 64 });
  assert.deepEqual(sizeOf(2, 100), [100, 50]);
  assert.deepEqual(sizeOf(0.5, 100), [50, 100]);
});

test("search finds all words in any order and case; the filter hides classes", () => {
  assert.deepEqual(search(["a/Robin_1.jpg", "b/robin_2.jpg", "b/wren.jpg"], "ROBIN b/"), [1]);
  assert.deepEqual(search(["a"], "  "), []);
  const { visible, faded } = filtered(4, [0, 1, 0, 2], new Set([0]), (image) => image !== 3);
  assert.deepEqual([[...visible], [...faded]], [[1], [0, 2, 3]]);
});

test("the most changed images come first, and a line describes an image", () => {
  assert.deepEqual(byChange({ jaccard: [0.5, 0, 1, 0] }, [0, 1, 2, 3]), [1, 3, 0, 2]);
  assert.deepEqual(byChange({ jaccard: null }, [2, 0]), [2, 0]);
  const levels = [{ classes: ["wren"], labels: [0] }];
  const embedding = { ids: ["x.jpg"], levels, maps: [{ outliers: Uint8Array.of(1) }] };
  assert.equal(describe(embedding, 0), "x.jpg: wren, outlier");
  assert.deepEqual([short(0.123456), short(NaN), short(12)], ["0.1235", "–", "12"]);
});
