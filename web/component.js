// Runs the components of space/ (HTML, CSS and JavaScript that stand beside the tabs there) as gradio's `gr.HTML` does.

const ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"};
export const escape = (value) => String(value ?? "").replace(/[&<>"']/g, (character) => ENTITIES[character]);
export const isFull = (value) => (Array.isArray(value) ? value.length > 0 : Boolean(value));

/**
 * Shows a component.
 *
 * @param element Where; it needs an id.
 * @param component What the build made of its files: functions `html` and `css` of its properties, and `start`.
 * @param listen Called with an event that the component triggers, and its data.
 * @returns Its properties. A new `value` is shown at once.
 */
export function mount(element, {html, css, start}, {value = null, ...props} = {}, listen = () => {}) {
  const style = element.appendChild(document.createElement("style"));
  const content = element.appendChild(document.createElement("div")), watchers = [];
  let shown = null;
  const draw = () => {
    const text = html(props);
    style.textContent = `#${element.id} { ${css(props)} }`;
    if (text !== shown) content.innerHTML = text;
    shown = text;
  };
  Object.defineProperty(props, "value", {
    get: () => value,
    set(next) {
      value = next;
      draw();
      watchers.forEach((watcher) => watcher());
    },
  });
  draw();
  start(element, props, listen, (_, watcher) => watchers.push(watcher));
  return props;
}
