// The browser's part of camera_tab.py: sends frames of the camera and draws the boxes of each answer into its frame. Gradio
// calls this with `element`, `props`, `trigger` and `watch`. `props.value` holds a frame for the server, then its answer.

const [video, view, button, status, lines] =
  ['video', 'canvas', 'button', '[role=status]', '.faces'].map((name) => element.querySelector(name));
// At most two frames are sent at a time: the server works on one while the other travels.
const frames = [document.createElement('canvas'), document.createElement('canvas')];
let stream = null, timer = null, started = 0, sent = 0, number = 0, waiting = [];

function stop(reason) {
  clearTimeout(timer);
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  waiting = [];
  view.hidden = true;
  lines.textContent = '';
  status.textContent = reason;
  button.textContent = 'Switch on the camera';
}

async function start() {
  if (!navigator.mediaDevices) return stop('The camera cannot be used: browsers allow it only over https or on localhost.');
  button.ariaDisabled = 'true';  // `disabled` would take the keyboard's focus away
  status.textContent = 'Waiting for the camera…';
  try {
    const size = {width: {ideal: 640}, height: {ideal: 480}, facingMode: 'user'};
    stream = await navigator.mediaDevices.getUserMedia({video: size, audio: false});
    stream.getTracks()[0].onended = () => stop('The camera has gone.');
    video.srcObject = stream;
    await video.play();
    started = performance.now();
    status.textContent = '';
    button.textContent = 'Switch off the camera';
    send();
  } catch (error) {
    const advice = 'allow it beside the address of this page, and try again.';
    stop('The camera cannot be used: ' + (error.name === 'NotAllowedError' ? advice : error.message));
  }
  button.ariaDisabled = 'false';
}

function send() {
  clearTimeout(timer);
  if (!stream) return;
  const now = performance.now();
  if (now - started > props.time_limit * 1000) return stop('The camera was switched off after a while.');
  if (element.offsetParent === null) return stop('');  // another tab of the page is open
  if (now - sent > props.answer_timeout * 1000) waiting = [];
  if (waiting.length === frames.length) {
    timer = setTimeout(send, 1000);  // should no answer come
    return;
  }
  number += 1;
  const frame = frames[number % frames.length];
  const factor = Math.min(1, props.side / Math.max(video.videoWidth, video.videoHeight));
  frame.width = Math.round(video.videoWidth * factor);
  frame.height = Math.round(video.videoHeight * factor);
  const context = frame.getContext('2d');
  context.setTransform(-1, 0, 0, 1, frame.width, 0);  // as in a mirror
  context.drawImage(video, 0, 0, frame.width, frame.height);
  waiting.push(number);
  sent = now;
  props.value = {number, frame: frame.toDataURL('image/jpeg', 0.8)};
  trigger('input');
  timer = setTimeout(send, props.pause * 1000);
}

function draw(frame, faces) {
  [view.width, view.height] = [frame.width, frame.height];
  const context = view.getContext('2d'), text = 20, pad = 5;
  context.drawImage(frame, 0, 0);
  context.font = `${text}px sans-serif`;
  context.textBaseline = 'middle';
  context.lineWidth = 2;
  context.strokeStyle = props.colour;
  for (const {box: [xmin, ymin, xmax, ymax], label} of faces) {
    context.strokeRect(xmin, ymin, xmax - xmin, ymax - ymin);
    const width = context.measureText(label).width + 2 * pad, height = text + 2 * pad;
    const left = Math.max(0, Math.min(xmin, view.width - width));
    const top = ymin >= height ? ymin - height : Math.max(0, Math.min(ymax, view.height - height));
    context.fillStyle = props.colour;
    context.fillRect(left, top, width, height);
    context.fillStyle = 'white';
    context.fillText(label, left + pad, top + height / 2);
  }
  view.hidden = false;
}

watch('value', () => {
  const answer = props.value;
  if (stream && answer?.failed) return stop(answer.failed);
  if (!stream || !answer?.faces || !waiting.includes(answer.number)) return;
  waiting = waiting.filter((other) => other > answer.number);
  draw(frames[answer.number % frames.length], answer.faces);
  view.dataset.answer = answer.number;
  lines.textContent = answer.faces.map((face) => face.line).join('\n') || 'No face is seen.';
  clearTimeout(timer);
  timer = setTimeout(send, Math.max(0, props.pause * 1000 - (performance.now() - sent)));
});

button.addEventListener('click', () => {
  if (button.ariaDisabled === 'true') return;
  stream ? stop('') : start();
});
