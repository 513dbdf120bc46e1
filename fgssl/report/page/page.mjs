// Starts the page: its embeddings, the origin of table entries, the theme, and printing.
import { openExplorer } from "./explorer.mjs";

const textOf = (number) => document.getElementById(`block-${number}`).textContent;

async function start() {
  const descriptions = JSON.parse(document.getElementById("embeddings").textContent);
  const roots = Array.from(document.querySelectorAll("[data-embedding]"));
  const open = (root) => openExplorer(root, descriptions[root.dataset.embedding], textOf);
  const explorers = await Promise.all(roots.map(open));
  const redraw = () => explorers.forEach((explorer) => explorer.redrawNow());
  const { dataset } = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", redraw);
  document.getElementById("theme").addEventListener("click", () => {
    dataset.theme = (dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark" ? "light" : "dark";
    redraw();
  });
  addEventListener("beforeprint", () => {
    dataset.print = "";
    explorers.forEach((explorer) => explorer.drawForPrint());
  });
  addEventListener("afterprint", () => { delete dataset.print; redraw(); });
  dataset.ready = "";
  return explorers;
}

document.addEventListener("click", (event) => {
  const origin = event.target.closest("[data-origin]");
  if (origin) document.getElementById(origin.dataset.origin).showModal();
  const dialog = event.target.closest("dialog");
  if (dialog && (event.target === dialog || event.target.closest("[data-close]"))) dialog.close();
});

window.fgsslPage = start();
