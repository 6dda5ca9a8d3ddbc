/* What keeps the page alive: no asking while nobody looks, and no old figure shown as the present. */
(() => {
  "use strict";
  const lost = document.getElementById("lost");
  const clock = document.getElementById("clock");
  let answered = new Date();

  const utc = (moment) => moment.toISOString().slice(11, 19);

  const show = (isLost) => {
    document.body.classList.toggle("is-lost", isLost);
    lost.hidden = !isLost;
    if (isLost) document.getElementById("lost-since").textContent = utc(answered);
  };

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden) event.preventDefault();
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful) answered = new Date();
    show(!event.detail.successful);
  });
  document.addEventListener("htmx:sendError", () => show(true));
  document.addEventListener("htmx:timeout", () => show(true));

  setInterval(() => { clock.textContent = `${utc(new Date())} UTC`; }, 1000);
})();
