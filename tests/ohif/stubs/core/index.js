// What the readers need of @cornerstonejs/core (a rendering engine that wants a graphics card), and no more.

// As in @cornerstonejs/core: within a tolerance; `false`, which the reader of maps passes, means exactly.
function isEqual(a, b, tolerance = 1e-5) {
  if (a == null || b == null || typeof a !== typeof b) return false;
  if (typeof a === 'number') return Math.abs(a - b) <= tolerance;
  return a.length === b.length && Array.from(a).every((x, i) => Math.abs(x - b[i]) <= tolerance);
}

const noted = () => {};
const log = { getLogger: () => log, debug: noted, info: noted, warn: noted, error: noted };

export const utilities = {
  isEqual,
  asArray: (x) => (Array.isArray(x) ? x : [x]),
  logger: { cs3dLog: log, adaptersLog: log },
};

export const metaData = { get: noted };
export const cache = {};
export const eventTarget = {};
export const triggerEvent = noted;
export const Enums = { MetadataModules: {} };

// A label map of the size of the image it lies on. `image` is set by read.mjs.
export const imageLoader = {
  image: () => ({ rows: 0, columns: 0 }),
  createAndCacheDerivedLabelmapImage(referencedImageId) {
    const { rows, columns } = imageLoader.image(referencedImageId);
    const pixels = new Uint8Array(rows * columns);
    return { referencedImageId, rows, columns, getPixelData: () => pixels };
  },
};
