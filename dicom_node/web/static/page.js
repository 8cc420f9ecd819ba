// Colours, ages that go on, names that are remembered, and live blocks that follow the node.
"use strict";
(() => {
  const kept = {
    get: (key) => { try { return localStorage.getItem(key); } catch { return null; } },
    set: (key, value) => { try { localStorage.setItem(key, value); } catch { /* not kept */ } },
  };

  const root = document.documentElement, toggle = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const name = () => { toggle.textContent = isDark() ? "Light" : "Dark"; toggle.title = `Use ${isDark() ? "light" : "dark"} colours`; };
  toggle.hidden = false;
  name();
  system.addEventListener("change", name);
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    kept.set("theme", root.dataset.theme);
    name();
  });

  for (const input of document.querySelectorAll("[data-remember]")) {
    const key = `remember-${input.dataset.remember}`;
    input.value ||= kept.get(key) ?? "";
    input.form?.addEventListener("submit", () => kept.set(key, input.value));
  }

  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  const long = (s) => { for (const [size, unit] of units) if (s >= size) return `${Math.floor(s / size)} ${unit}`; return `${Math.floor(s)} s`; };
  const age = () => {
    const now = Date.now() / 1000;
    for (const time of document.querySelectorAll("time[data-age]")) {
      const at = Number(time.dataset.age), text = at <= now ? long(now - at) : `in ${long(at - now)}`;
      if (time.textContent !== text) time.textContent = text;
    }
  };
  setInterval(age, 5000);

  const block = document.querySelector("[data-live]");
  if (!block) return;
  const pulse = document.getElementById("pulse");
  const about = block.dataset.live; // a case, or nothing: every case
  let source = null, busy = false, again = false, pressed = false;

  // What is pressed is not exchanged before it is let go: the click would be lost.
  block.addEventListener("pointerdown", () => { pressed = true; });
  for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { pressed = false; catchUp(); });

  const catchUp = () => setTimeout(() => { if (again && !busy && !pressed) { again = false; refresh(); } }, 300);
  const refresh = async () => {
    if (busy || pressed) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { "X-Live": "1" } });
      if (answer.redirected || answer.status === 401) { location.reload(); return; }
      if (answer.ok) {
        const fresh = document.createElement("div"), open = [...block.querySelectorAll("details[open][id]")].map((d) => d.id);
        fresh.innerHTML = await answer.text();
        if (pressed) again = true;
        else if (fresh.innerHTML !== block.innerHTML) {
          const focused = document.activeElement, inside = block.contains(focused);
          const path = inside ? focused.getAttribute("href") : null;
          block.replaceChildren(...fresh.childNodes);
          for (const id of open) document.getElementById(id)?.setAttribute("open", "");
          if (path) [...block.querySelectorAll("a")].find((a) => a.getAttribute("href") === path)?.focus();
          age();
        }
      }
    } catch { /* the stream says so itself */ } finally {
      busy = false;
      catchUp();
    }
  };
  const say = (text) => { pulse.hidden = !text; pulse.textContent = text; };
  const listen = () => {
    source = new EventSource("/live");
    source.addEventListener("hello", () => { say(""); refresh(); });
    source.addEventListener("change", (e) => {
      const { cases } = JSON.parse(e.data);
      if (!about || cases === null || cases.length === 0 || cases.includes(about)) refresh();
    });
    source.addEventListener("error", () => {
      say("not live");
      if (source.readyState === EventSource.CLOSED) setTimeout(() => { if (!document.hidden) { source.close(); listen(); } }, 5000);
    });
  };
  // A browser has few connections to one host: pages that nobody sees give theirs back.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { source?.close(); source = null; } else if (!source) listen();
  });
  if (!document.hidden) listen();
})();
