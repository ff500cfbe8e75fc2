// Sets the reader's choice of light or dark before anything is drawn. Paper is always light.
"use strict";

(() => {
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    try {
      return window.localStorage.getItem("theme");
    } catch {
      return null; // a browser may refuse storage to a page opened from disk
    }
  };
  let chosen = stored();

  function apply() {
    root.dataset.theme = "printing" in root.dataset ? "light" : (chosen ?? (system.matches ? "dark" : "light"));
    const button = document.getElementById("theme");
    if (button) button.textContent = root.dataset.theme === "dark" ? "light" : "dark";
    document.dispatchEvent(new Event("themechange"));
  }

  apply();
  system.addEventListener("change", apply);
  window.addEventListener("beforeprint", () => {
    root.dataset.printing = "yes";
    apply();
  });
  window.addEventListener("afterprint", () => {
    delete root.dataset.printing;
    apply();
  });
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    button.addEventListener("click", () => {
      chosen = root.dataset.theme === "dark" ? "light" : "dark";
      try {
        window.localStorage.setItem("theme", chosen);
      } catch {
        // the choice then lasts as long as the page
      }
      apply();
    });
    apply();
    document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  });
})();
