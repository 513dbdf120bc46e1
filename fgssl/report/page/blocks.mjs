// Reads the data blocks of the page: base64 of gzip'd typed arrays, JSON, and WebP files.

const ARRAYS = { f4: Float32Array, u4: Uint32Array, u2: Uint16Array, u1: Uint8Array };

/** Decode base64 without a detour over a data: address, which the page's policy forbids. */
export function decodeBase64(text) {
  const decoded = atob(text);
  const bytes = new Uint8Array(decoded.length);
  for (let place = 0; place < bytes.length; place++) bytes[place] = decoded.charCodeAt(place);
  return bytes;
}

export async function gunzip(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Return the content of a block: a typed array, a parsed JSON value, or a Blob. */
export async function readBlock(reference, textOf) {
  const bytes = decodeBase64(textOf(reference.block));
  if (reference.kind === "webp") return new Blob([bytes], { type: "image/webp" });
  const content = await gunzip(bytes);
  if (reference.kind === "json") return JSON.parse(new TextDecoder().decode(content));
  return new ARRAYS[reference.kind](content.buffer);
}

/** Return a description of an embedding with the content of its blocks; sprite sheets stay packed until needed. */
export async function readEmbedding(description, textOf) {
  const read = (reference) => readBlock(reference, textOf);
  const levels = description.levels.map(async (level) => ({
    name: level.name, classes: await read(level.classes), labels: await read(level.labels),
  }));
  const attributes = description.attributes.map(async (one) => ({ name: one.name, values: await read(one.values) }));
  const maps = description.maps.map(async (map) => ({
    ...map,
    points: await read(map.points), neighbors: await read(map.neighbors),
    distances: await read(map.distances), outliers: await read(map.outliers),
  }));
  const pictures = description.thumbnails;
  return {
    ...description,
    ids: await read(description.ids),
    levels: await Promise.all(levels), attributes: await Promise.all(attributes), maps: await Promise.all(maps),
    jaccard: description.jaccard && await read(description.jaccard),
    thumbnails: pictures && { ...pictures, aspects: await read(pictures.aspects) },
  };
}

/** List the neighbors of an image in a map, nearest first; `index` is null if the page lacks that image. */
export function neighborsOf(map, image) {
  return Array.from({ length: map.k }, (_, rank) => {
    const stored = map.neighbors[image * map.k + rank]; // 0 is an image that is not shown
    const distance = map.distances[image * map.k + rank] / 65535 * map.farthest;
    return { index: stored === 0 ? null : stored - 1, distance };
  });
}

/** Whether the image is an outlier of any level in any map. */
export function isOutlier(embedding, image) {
  const levels = embedding.levels.length;
  return embedding.maps.some((map) => map.outliers.subarray(image * levels, (image + 1) * levels).some(Boolean));
}
