// The browser's part of files_tab.py. Gradio calls this with `element`, `props` and `watch`. Only lines that are new are added
// to the table: to draw 3,000 anew takes seconds.

const [results, link] = ['div[hidden]', '.downloads'].map((name) => element.querySelector(name));
const bodies = element.querySelectorAll('tbody');

function add(parent, tag, properties) {
  const child = Object.assign(document.createElement(tag), properties);
  parent.append(child);
  return child;
}

function addLine(body, line) {
  const row = body.insertRow(), picture = row.insertCell();
  if (line.image) add(picture, 'img', {src: line.image, alt: ''});
  const heading = add(row, 'th', {scope: 'row', title: line.name}), name = add(heading, 'span', {className: 'name'});
  // A narrow screen shortens the first part.
  for (const textContent of [line.name.slice(0, -12), line.name.slice(-12)]) add(name, 'span', {textContent});
  if (line.face) add(heading, 'span', {className: 'face', textContent: `face ${line.face}`});
  if (line.text) {
    add(row, 'td', {colSpan: 4, className: line.failed ? 'failed' : '', textContent: line.text});
    return;
  }
  // A phone has no room for the heading of the table, so its words stand in the line.
  add(add(row, 'td', {textContent: line.age}), 'i', {textContent: ' years'});
  add(row, 'td', {textContent: line.range}).insertAdjacentHTML('afterbegin', `<i>${props.range_name} </i>`);
  add(row, 'td', {textContent: line.at_least}).insertAdjacentHTML('afterbegin', `<i>${props.at_least_name}: </i>`);
  add(row, 'td', {textContent: line.gender});
}

watch('value', () => {
  const {groups, download} = props.value ?? {};
  results.hidden = !groups;
  link.innerHTML = download ?? '';
  bodies.forEach((body, index) => {
    const lines = groups?.[index] ?? [];
    if (!lines.length) body.replaceChildren();
    lines.slice(body.rows.length).forEach((line) => addLine(body, line));
  });
});
