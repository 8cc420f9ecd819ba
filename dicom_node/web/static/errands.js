// While an errand is under way, the page looks again every second: it ends in no event of the store.
"use strict";
(() => {
  const block = document.getElementById("live");
  const running = () => document.getElementById("errands")?.dataset.running === "yes";
  const busy = () => block.contains(document.activeElement) && document.activeElement.matches("input");
  const look = async () => {
    if (running() && !busy()) {
      try {
        const answer = await fetch(location.href, { headers: { "X-Live": "1" } });
        if (answer.ok && !answer.redirected) {
          const open = [...block.querySelectorAll("details[open][id]")].map((d) => d.id);
          block.innerHTML = await answer.text();
          for (const id of open) document.getElementById(id)?.setAttribute("open", "");
        }
      } catch { /* again in a second */ }
    }
    setTimeout(look, 1000);
  };
  look();
})();
