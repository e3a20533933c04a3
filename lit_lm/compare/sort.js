(() => {
  "use strict";
  // A click on a heading sorts the members of each league; a second one turns the order round. Empty cells stay last.
  document.querySelectorAll("button.sort").forEach((button) => {
    button.addEventListener("click", () => {
      const head = button.closest("th"), row = head.parentElement, table = head.closest("table");
      const column = [...row.children].indexOf(head);
      const down = head.getAttribute("aria-sort") === "ascending";
      [...row.children].forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (line) => {
        const cell = line.children[column];
        return cell && "value" in cell.dataset ? Number(cell.dataset.value) : null;
      };
      table.querySelectorAll("tbody").forEach((body) => {
        const lines = [...body.children].filter((line) => !line.classList.contains("league"));
        lines.sort((a, b) => {
          const [x, y] = [value(a), value(b)];
          if (x === null || y === null) return (x === null) - (y === null);
          return down ? y - x : x - y;
        });
        body.append(...lines);
      });
    });
  });
})();
