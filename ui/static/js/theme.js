// Sets the chosen theme before anything is drawn, so that the page does not flash.
(() => {
  let chosen = "auto";
  try { chosen = localStorage.getItem("fleetlake.theme") || "auto"; } catch { /* storage may be forbidden */ }
  if (chosen !== "auto") document.documentElement.dataset.theme = chosen;
})();
