// Colors of classes and of numbers that stay apart for color-blind readers, as 0xBBGGRR numbers.

// Okabe and Ito's colors without black, the yellow darkened to be seen on white, and a violet.
const HUES = [0x0072b2, 0xe69f00, 0x009e73, 0xcc79a7, 0x56b4e9, 0xd55e00, 0xc2b000, 0x7a5cc4];
const VIRIDIS = [0x482576, 0x414487, 0x35608d, 0x2a788e, 0x21918c, 0x22a884, 0x43bf71, 0x7ad151, 0xbcdf27];
export const GRAY = 0x999999;

/** Turn 0xRRGGBB into 0xBBGGRR and back. */
export const swapped = (rgb) => ((rgb & 255) << 16) | (rgb & 0xff00) | (rgb >> 16);

/** Mix two colors, channel by channel. */
export function mix(from, to, share) {
  let mixed = 0;
  for (const shift of [0, 8, 16]) {
    const [a, b] = [(from >> shift) & 255, (to >> shift) & 255];
    mixed |= Math.round(a + (b - a) * share) << shift;
  }
  return mixed;
}

const lighter = (share) => HUES.map((hue) => mix(hue, 0xffffff, share));
const DARKER = HUES.map((hue) => mix(hue, 0x000000, 0.45));

/** Eight hues, then the same in two other lightnesses that stand out from a dark or a light background. */
export const palette = (dark) => [...HUES, ...lighter(0.45), ...(dark ? lighter(0.75) : DARKER)].map(swapped);

export const css = (color) => `#${swapped(color).toString(16).padStart(6, "0")}`;

/** Return the mean position of each class as [x, y]; a class without images is null. */
export function centroids(points, labels, count) {
  const sums = Array.from({ length: count }, () => [0, 0, 0]);
  labels.forEach((label, image) => {
    const sum = sums[label];
    sum[0] += points[2 * image]; sum[1] += points[2 * image + 1]; sum[2] += 1;
  });
  return sums.map(([x, y, number]) => (number ? [x / number, y / number] : null));
}

/**
 * Give each class a color. Up to eight classes get a hue each; of more, each gets the color whose nearest other class
 * in the plane is farthest away, since no palette has hundreds of colors that a reader can name.
 */
export function classColors(centers, colors) {
  if (centers.length <= HUES.length) return centers.map((_, place) => colors[place]);
  const users = colors.map(() => []);
  return centers.map((center) => {
    if (center === null) return swapped(GRAY);
    const apart = ([x, y]) => Math.hypot(x - center[0], y - center[1]);
    const nearest = users.map((places) => Math.min(Infinity, ...places.map(apart)));
    const chosen = nearest.indexOf(Math.max(...nearest));
    users[chosen].push(center);
    return colors[chosen];
  });
}

/** Return the color of a share from 0 to 1; gray if it is not a number. */
export function rampColor(share) {
  if (!Number.isFinite(share)) return GRAY;
  const place = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const below = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return swapped(mix(VIRIDIS[below], VIRIDIS[below + 1], place - below));
}

/** Return the smallest and the largest finite value. */
export function range(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) if (Number.isFinite(value)) { low = Math.min(low, value); high = Math.max(high, value); }
  return low <= high ? [low, high] : [0, 0];
}
