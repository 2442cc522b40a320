// A photo as the networks see it: upright, its colours as they are in the file, on white where it is transparent.

/** A photo, or a part of it. Its pixels are read in strips: a copy of all would take gigabytes for the largest. */
export class Photo {
  constructor(bitmap, left = 0, top = 0, width = bitmap.width, height = bitmap.height) {
    Object.assign(this, {bitmap, left, top, width, height});
  }

  crop(left, top, right, bottom) {
    return new Photo(this.bitmap, this.left + left, this.top + top, right - left, bottom - top);
  }

  /** Returns RGBA bytes. */
  readRows(top, bottom) {
    const context = new OffscreenCanvas(this.width, bottom - top).getContext("2d", {willReadFrequently: true});
    context.fillStyle = "white";
    context.fillRect(0, 0, this.width, bottom - top);
    context.drawImage(this.bitmap, -this.left, -this.top - top);
    return context.getImageData(0, 0, this.width, bottom - top).data;
  }
}

/**
 * Decodes a photo.
 *
 * @param size Width and height to decode it at, if not its own.
 */
export async function openPhoto(blob, size = null) {
  const options = {colorSpaceConversion: "none"};
  if (size) Object.assign(options, {resizeWidth: size[0], resizeHeight: size[1], resizeQuality: "high"});
  return new Photo(await createImageBitmap(blob, options));
}
