// Forms that scripts send: each has a name, under which stands what it does.

import { showError } from "./api.js";

export const submits = {};

document.addEventListener("submit", async (event) => {
  const form = event.target;
  const run = submits[form.dataset.submit];
  if (!run) return;
  event.preventDefault();
  const button = form.querySelector("button.main");
  button.disabled = true;
  for (const alert of form.querySelectorAll(".alert")) alert.hidden = true;
  try {
    await run(form, new FormData(form));
  } catch (error) {
    showError(form, error);
  } finally {
    button.disabled = false;
  }
});
