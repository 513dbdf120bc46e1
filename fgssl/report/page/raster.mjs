// Points as pixels of an ImageData: browsers without a GPU draw 50,000 in a few milliseconds, where they have no WebGL.

/** Return a disc as a stamp: [dx, dy, coverage from 1 to 255] triples, smooth at its edge. */
export const disc = (radius) => stamped(Math.ceil(radius), (distance) => radius + 0.5 - distance);

/** Return a ring as a stamp. */
export const ring = (radius, line) =>
  stamped(Math.ceil(radius + line), (distance) => line / 2 + 0.5 - Math.abs(distance - radius));

function stamped(reach, coverageAt) {
  const stamp = [];
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) {
      const coverage = Math.round(255 * Math.min(Math.max(coverageAt(Math.hypot(dx, dy)), 0), 1));
      if (coverage > 0) stamp.push([dx, dy, coverage]);
    }
  }
  return stamp;
}

/** Radius of a point: small if there are many, and growing slowly while one zooms in. */
export function radiusOf(count, zoom, density) {
  const base = count > 20000 ? 1.4 : count > 4000 ? 2.0 : count > 1000 ? 3 : 4.2;
  return density * Math.min(base * Math.max(zoom, 1) ** 0.35, 9);
}

/**
 * Paint images into pixels (Uint32Array, 0xAABBGGRR) in the order given.
 * `colors` has a color for each image; `opacity` from 0 to 255 fades all of them into what lies below.
 */
export function paint(pixels, width, height, points, view, images, colors, stamp, opacity = 255) {
  const offsets = Int32Array.from(stamp, ([dx, dy]) => dy * width + dx);
  const alphas = Uint8Array.from(stamp, ([, , coverage]) => Math.round(coverage * opacity / 255));
  const reach = Math.max(0, ...stamp.map(([dx]) => dx));
  const { scale, x: left, y: top } = view;
  for (let place = 0; place < images.length; place++) {
    const image = images[place];
    const x = Math.round(points[2 * image] * scale + left);
    const y = Math.round(top - points[2 * image + 1] * scale);
    if (x < reach || y < reach || x >= width - reach || y >= height - reach) continue;
    const center = y * width + x;
    const color = colors[image];
    const [blue, green, red] = [(color >> 16) & 255, (color >> 8) & 255, color & 255];
    for (let dot = 0; dot < offsets.length; dot++) {
      const at = center + offsets[dot];
      const alpha = alphas[dot];
      if (alpha === 255) { pixels[at] = 0xff000000 | color; continue; }
      const below = pixels[at];
      const [b, g, r] = [(below >> 16) & 255, (below >> 8) & 255, below & 255];
      pixels[at] = 0xff000000 | ((b + (((blue - b) * alpha) >> 8)) << 16)
        | ((g + (((green - g) * alpha) >> 8)) << 8) | (r + (((red - r) * alpha) >> 8));
    }
  }
}
