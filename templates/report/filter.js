"use strict";
// Filters the table of changes, and keeps the filter in the address: a link shows what its sender saw.
const form = document.querySelector(".filter");
if (form) {
  const rows = [...document.querySelectorAll("#changes tbody tr")];
  const fields = [...form.querySelectorAll("input, select")];
  const count = form.querySelector("output");
  const show = () => {
    const wanted = Object.fromEntries(fields.map((field) => [field.name, field.value.trim().toLowerCase()]));
    let shown = 0;
    for (const row of rows) {
      const views = row.dataset.views.split(" ");
      const fits = (!wanted.kind || row.dataset.kind === wanted.kind) && (!wanted.view || views.includes(wanted.view))
        && row.dataset.name.includes(wanted.package);
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${rows.length} changes`;
  };
  const read = () => {
    const asked = new URLSearchParams(location.hash.slice(1));
    for (const field of fields) {
      field.value = asked.get(field.name) ?? "";
      if (field.value === "" && field.options) field.selectedIndex = 0;
    }
    show();
  };
  const write = () => {
    const asked = new URLSearchParams(fields.filter((field) => field.value).map((field) => [field.name, field.value]));
    history.replaceState(null, "", `#${asked}`);
    show();
  };
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const event of ["input", "change"]) form.addEventListener(event, write);  // not every driver sends both
  window.addEventListener("hashchange", read);
  read();
}
