// Tracks faces over the frames of a camera and averages their numbers, as photos/tracking.py does.

import {tracking} from "./settings.js";

const {SIDES, MIN_OVERLAP, FORGET_SECONDS, NUMBER_SHARE, BOX_SHARE, SPEED_SHARE} = tracking;

const mix = (old, fresh, share) => old.map((value, index) => value + share * (fresh[index] - value));

export class FaceTracker {
  tracks = [];
  nextNumber = 1;

  /** Adds the faces of the next frame; returns them with averaged numbers, and with `track`, the number of the face. */
  update(faces) {
    const now = performance.now() / 1000;
    this.tracks = this.tracks.filter(({seenAt}) => now - seenAt <= FORGET_SECONDS);
    for (const track of this.tracks) {
      track.absent += 1;
      track.seenBox = track.seenBox.map((side, index) => side + track.speed[index]);
    }
    const boxes = faces.map(({box}) => SIDES.map((side) => box[side])), matches = this.match(boxes);
    return faces.map((face, index) => {
      const track = matches.get(index) ?? this.begin(face, boxes[index]);
      track.seenAt = now;
      return addToTrack(track, face, boxes[index]);
    });
  }

  /** Returns the track of each box that has one, by the index of the box; large overlaps come first. */
  match(boxes) {
    const pairs = boxes.flatMap((box, index) =>
      this.tracks.map((track) => ({index, track, overlap: computeOverlap(box, track.seenBox)})));
    const matches = new Map(), taken = new Set();
    for (const {index, track, overlap} of pairs.sort((one, other) => other.overlap - one.overlap)) {
      // What is expected of a hidden face gets less sure.
      if (overlap < MIN_OVERLAP / track.absent || matches.has(index) || taken.has(track)) continue;
      matches.set(index, track);
      taken.add(track);
    }
    return matches;
  }

  begin({gender}, box) {
    const track = {
      number: this.nextNumber++, frames: 0, absent: 0, seenBox: box, speed: [0, 0, 0, 0], box, years: [0, 0, 0],
      gender, otherGender: null, probability: 0, // the average for the gender of the first frame
    };
    this.tracks.push(track);
    return track;
  }
}

function addToTrack(track, face, box) {
  track.frames += 1;
  const share = Math.max(NUMBER_SHARE, 1 / track.frames);
  track.years = mix(track.years, [face.age, ...face.age_interval], share);
  const isSame = face.gender === track.gender;
  if (!isSame) track.otherGender = face.gender;
  track.probability += share * ((isSame ? face.gender_score : 1 - face.gender_score) - track.probability);
  // `seenBox` is the expected box here; its error has added up over the frames in which the face was absent. Only its middle
  // moves on: the box of a face that gets covered shrinks.
  const error = box.map((side, index) => side - track.seenBox[index]);
  const miss = error.map((_, index) => (error[index % 2] + error[(index % 2) + 2]) / 2);
  track.speed = track.speed.map((speed, index) => speed + (SPEED_SHARE * miss[index]) / Math.max(1, track.absent));
  track.box = mix(track.box, box, BOX_SHARE);
  Object.assign(track, {seenBox: box, absent: 0});
  const isFirst = track.probability >= 0.5 || track.otherGender === null, [age, ...age_interval] = track.years;
  return {
    ...face,
    track: track.number,
    age,
    age_interval,
    gender: isFirst ? track.gender : track.otherGender,
    gender_score: isFirst ? track.probability : 1 - track.probability,
    box: Object.fromEntries(SIDES.map((side, index) => [side, Math.round(track.box[index])])),
  };
}

/** Returns the intersection over union of two boxes. */
function computeOverlap(first, second) {
  const area = ([xmin, ymin, xmax, ymax]) => Math.max(0, xmax - xmin) * Math.max(0, ymax - ymin);
  const sides = first.map((side, index) => (index < 2 ? Math.max(side, second[index]) : Math.min(side, second[index])));
  const common = area(sides), union = area(first) + area(second) - common;
  return union > 0 ? common / union : 0;
}
