// Tells pictures from other files, and why a file cannot be read: the sentences of photos/reading.py.

import {image_formats, reading} from "./settings.js";

const {SIGNATURES, READABLE, MAX_PIXELS, START_BYTES} = image_formats, {SENTENCES} = reading;
const GONE = "This file cannot be opened any more: choose it again.";
const PATTERNS = Object.entries(SIGNATURES).map(([name, pattern]) => {
  const flags = pattern.startsWith("(?i)") ? "is" : "s"; // that of Python's re.DOTALL
  return [name, new RegExp(`^(?:${pattern.replace("(?i)", "")})`, flags)];
});
// The formats that all browsers read. Of the others some read some.
const COMMON = new Set(["JPEG", "PNG", "WebP", "GIF", "AVIF", "BMP", "ICO"]);

/** Says in a sentence for the visitor why a file cannot be read. */
export class PhotoError extends Error {
  constructor(kind, format) {
    super(SENTENCES[kind].replace("{}", format ? format[0].toUpperCase() + format.slice(1) : "File"));
  }
}

/** Returns the first bytes of a file as characters; throws an error if it was changed or deleted after it was chosen. */
export async function readStart(blob) {
  const bytes = await blob.slice(0, START_BYTES).arrayBuffer().catch(() => {
    throw new Error(GONE);
  });
  return Array.from(new Uint8Array(bytes), (byte) => String.fromCharCode(byte)).join("");
}

/** Returns the name of the format that a file has by its first bytes, for instance "JPEG" or "video". */
export async function findFormat(blob) {
  const start = await readStart(blob);
  return PATTERNS.find(([, pattern]) => pattern.test(start))?.[0];
}

export const isReadable = async (blob) => READABLE.includes(await findFormat(blob));

/**
 * Reads the size of a picture; decodes nothing.
 *
 * @returns {image, size, reduced, error}: an `img` element, its width and height, those at which it is to be decoded, or null
 *   for the same, and the error to throw if that fails. Revoke the address of the `img` when it is not needed any more.
 * @throws {PhotoError} if the file is no picture, or too large.
 */
export async function openPicture(blob) {
  if (!blob.size) throw new PhotoError("empty");
  const format = await findFormat(blob);
  if (!format) throw new PhotoError("unknown");
  if (!READABLE.includes(format)) throw new PhotoError("unsupported", format);
  const error = new PhotoError(COMMON.has(format) ? "damaged" : "unsupported", format), image = new Image();
  image.src = URL.createObjectURL(blob);
  try {
    await new Promise((resolve, reject) => Object.assign(image, {onload: resolve, onerror: reject}));
    const size = [image.naturalWidth, image.naturalHeight];
    const factor = Math.ceil(Math.sqrt((size[0] * size[1]) / MAX_PIXELS));
    if (factor > 1 && format !== "JPEG") throw new PhotoError("too large");
    return {image, size, reduced: factor > 1 ? size.map((side) => Math.ceil(side / factor)) : null, error};
  } catch (reason) {
    URL.revokeObjectURL(image.src);
    throw reason instanceof PhotoError ? reason : error;
  }
}
