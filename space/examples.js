// The browser's part of the photo and its examples, in photo_tab.py. An example is chosen by its position.
element.addEventListener("click", ({target}) => {
  const index = [...element.querySelectorAll("button")].indexOf(target.closest("button"));
  if (index >= 0) trigger("select", {index});
});
// Gradio's button for an upload removes the photo and opens no dialog. It brings back the input for files after the camera or the
// clipboard.
const photo = document.getElementById("photo"), find = () => photo.querySelector("input[type=file]");
photo.addEventListener("click", (event) => {
  if (!event.target.closest("[aria-label='Upload file']")) return;
  if (find()) event.stopPropagation();
  setTimeout(() => find().click(), 100);
}, true);
