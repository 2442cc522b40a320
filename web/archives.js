// Reads the photos in files and zip archives, as photos/archives.py does.

import {archives, pictures, suffixes} from "./settings.js";
import {findFormat, isReadable, readStart} from "./reading.js";

const {ENCRYPTED, UNKNOWN_PACKING, NESTED, NOT_A_ZIP, OTHER_ARCHIVE, NO_MEMBERS, TOO_MUCH_DATA} = archives;
const {ARCHIVE_NAME, MAX_MEMBER_BYTES} = archives, {SYSTEM_FILES, SYSTEM_FOLDERS} = pictures;
const END = 0x06054b50, MEMBER = 0x02014b50, END_SIZE = 22, MAX_COMMENT = 65535, ELSEWHERE = 0xffffffff;
const STORED = 0, DEFLATED = 8; // the methods that browsers unpack
const ZIP64 = "This archive is of the kind zip64, which is not read here: pack the photos in zip archives of at most 4 GB.";

/** Says something about an archive itself; its photos have been read. */
export class Note extends Error {}

/** Returns a name and a function for each photo: it returns the photo, or throws with a sentence for the visitor. */
export async function expandArchives(files) {
  const photos = [];
  for (const file of files) {
    const {name} = file;
    photos.push(...(await expand(file).catch((error) => [{name, read: refuse(error.message)}])));
  }
  return photos;
}

async function expand(file) {
  const {name} = file, start = await readStart(file);
  if (/^PK(\x03\x04|\x05\x06|\x07\x08)/.test(start)) return expandZip(file);
  return [{name, read: (await findFormat(file)) === "archive" ? refuse(OTHER_ARCHIVE) : async () => file}];
}

const refuse = (reason, Kind = Error) => async () => {
  throw new Kind(reason);
};

async function expandZip(file) {
  const photos = [], passedOver = [];
  try {
    for (const member of await listMembers(file)) {
      if (isSystemFile(member.name)) continue;
      if (await isPicture(member)) photos.push(member);
      else if (new RegExp(ARCHIVE_NAME, "i").test(member.name)) photos.push({name: member.name, read: refuse(NESTED)});
      else passedOver.push(member.name);
    }
  } catch (error) {
    return [{name: file.name, read: refuse(error instanceof RangeError ? NOT_A_ZIP : error.message)}];
  }
  if (passedOver.length) {
    const count = passedOver.length, others = count === 1 ? "1 other file was" : `${count.toLocaleString("en")} other files were`;
    photos.push({name: file.name, read: refuse(`${others} passed over, such as ${passedOver[0]}.`, Note)});
  }
  return photos.length ? photos : [{name: file.name, read: refuse(NO_MEMBERS)}];
}

function isSystemFile(name) {
  const parts = name.split("/"), isHidden = parts.some((part) => part.startsWith(".") || SYSTEM_FOLDERS.includes(part));
  return isHidden || SYSTEM_FILES.includes(parts.at(-1).toLowerCase());
}

async function isPicture({name, read}) {
  if (suffixes.includes(name.slice(name.lastIndexOf(".")).toLowerCase())) return true;
  return read().then(isReadable, () => true);
}

/** Lists the files of a zip archive; throws a RangeError if it is broken. */
async function listMembers(file) {
  const tail = new DataView(await file.slice(-END_SIZE - MAX_COMMENT).arrayBuffer());
  let end = tail.byteLength - END_SIZE;
  while (tail.getUint32(end, true) !== END) end--; // throws before the first byte
  const size = tail.getUint32(end + 12, true), offset = tail.getUint32(end + 16, true);
  if (offset === ELSEWHERE) throw new Error(ZIP64);
  const directory = new DataView(await file.slice(offset, offset + size).arrayBuffer()), members = [];
  for (let place = 0; place < directory.byteLength; ) {
    const short = (index) => directory.getUint16(place + index, true);
    const long = (index) => directory.getUint32(place + index, true);
    if (long(0) !== MEMBER) throw new RangeError("no member");
    const nameEnd = place + 46 + short(28);
    const name = new TextDecoder().decode(directory.buffer.slice(place + 46, nameEnd)).replaceAll("\\", "/");
    const entry = {flags: short(8), method: short(10), packed: long(20), size: long(24), offset: long(42)};
    if (!name.endsWith("/")) members.push({name, read: () => readMember(file, entry)});
    place = nameEnd + short(30) + short(32);
  }
  return members;
}

async function readMember(file, {flags, method, packed, size, offset}) {
  if (flags & 1) throw new Error(ENCRYPTED);
  if (method !== STORED && method !== DEFLATED) throw new Error(UNKNOWN_PACKING);
  if (size > MAX_MEMBER_BYTES) throw new Error(TOO_MUCH_DATA.replace("{}", MAX_MEMBER_BYTES / 1e6));
  const head = new DataView(await file.slice(offset, offset + 30).arrayBuffer());
  const start = offset + 30 + head.getUint16(26, true) + head.getUint16(28, true), content = file.slice(start, start + packed);
  if (method === STORED) return content;
  return new Response(content.stream().pipeThrough(new DecompressionStream("deflate-raw"))).blob();
}
