// A view maps the plane to pixels: right is x * scale + view.x, down is view.y - y * scale.

/** Return the view that shows all points with a margin. */
export function fitView(points, width, height, margin = 24) {
  let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let place = 0; place < points.length; place += 2) {
    left = Math.min(left, points[place]); right = Math.max(right, points[place]);
    bottom = Math.min(bottom, points[place + 1]); top = Math.max(top, points[place + 1]);
  }
  const room = (pixels, extent) => Math.max(pixels - 2 * margin, 1) / (extent || 1);
  const scale = Math.min(room(width, right - left), room(height, top - bottom));
  return { scale, x: width / 2 - (left + right) / 2 * scale, y: height / 2 + (bottom + top) / 2 * scale };
}

/** Zoom by a factor so that what lies under (x, y) stays there. */
export function zoomAt(view, factor, x, y) {
  return { scale: view.scale * factor, x: x + (view.x - x) * factor, y: y + (view.y - y) * factor };
}

export const panBy = (view, right, down) => ({ ...view, x: view.x + right, y: view.y + down });

export function screenOf(points, view, image) {
  return [points[2 * image] * view.scale + view.x, view.y - points[2 * image + 1] * view.scale];
}

/** Return the nearest of these images within `most` pixels of (x, y), or -1. */
export function nearest(points, view, images, x, y, most) {
  let [found, least] = [-1, most * most];
  for (const image of images) {
    const right = points[2 * image] * view.scale + view.x - x;
    const down = view.y - points[2 * image + 1] * view.scale - y;
    const distance = right * right + down * down;
    if (distance <= least) [found, least] = [image, distance];
  }
  return found;
}

/** Return the image that an arrow key leads to: near, and within 45 degrees of the direction; -1 if there is none. */
export function towards(points, view, images, from, right, down) {
  const [x, y] = screenOf(points, view, from);
  let [found, least] = [-1, Infinity];
  for (const image of images) {
    const [otherX, otherY] = screenOf(points, view, image);
    const ahead = (otherX - x) * right + (otherY - y) * down;
    const aside = Math.abs((otherX - x) * down + (otherY - y) * right);
    const cost = ahead + 2 * aside;
    if (image !== from && ahead > 0 && aside <= ahead && cost < least) [found, least] = [image, cost];
  }
  return found;
}

/** Whether (x, y) lies in a polygon of [x, y] corners, by the number of edges to its right. */
export function inPolygon(corners, x, y) {
  let inside = false;
  for (let place = 0, last = corners.length - 1; place < corners.length; last = place++) {
    const [[x1, y1], [x2, y2]] = [corners[place], corners[last]];
    if ((y1 > y) !== (y2 > y) && x < (x2 - x1) * (y - y1) / (y2 - y1) + x1) inside = !inside;
  }
  return inside;
}

export function lassoed(points, view, images, corners) {
  return Array.from(images).filter((image) => inPolygon(corners, ...screenOf(points, view, image)));
}
