"use strict";
// Filters a table, and keeps the filter in the address: a link shows what its sender saw. A row has an attribute for each
// field: a choice must be one of the values there, a text be found in them.
const form = document.querySelector(".filter");
if (form) {
  const table = document.querySelector("table.filtered");
  const rows = [...table.querySelectorAll("tbody tr")];
  const fields = [...form.querySelectorAll("input, select")];
  const count = form.querySelector("output");
  const usual = (field) => [...field.options ?? []].find((option) => option.defaultSelected)?.value ?? "";
  const show = () => {
    const wanted = fields.filter((field) => field.value.trim())
      .map((field) => [field.name, field.value.trim().toLowerCase(), field.options]);
    let shown = 0;
    for (const row of rows) {
      const fits = wanted.every(([name, value, options]) => {
        const own = row.dataset[name].toLowerCase();
        return options ? own.split("|").includes(value) : own.includes(value);
      });
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${rows.length} ${table.dataset.what}`;
  };
  const read = () => {
    const asked = new URLSearchParams(location.hash.slice(1));
    for (const field of fields) {
      field.value = asked.get(field.name) ?? usual(field);
      if (field.options && field.selectedIndex < 0) field.value = usual(field);
    }
    show();
    if (location.hash.includes("=")) form.scrollIntoView();
  };
  const write = () => {
    const asked = fields.filter((field) => field.value !== usual(field)).map((field) => [field.name, field.value]);
    history.replaceState(null, "", `#${new URLSearchParams(asked)}`);
    show();
  };
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const event of ["input", "change"]) form.addEventListener(event, write);  // not every driver sends both
  window.addEventListener("hashchange", read);
  read();
}
