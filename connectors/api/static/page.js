// Replaces the live part of the page every two seconds and says so when the server is gone.
"use strict";
const live = document.getElementById("live");
let failures = 0;

function showAge() {
  const age = document.getElementById("age");
  if (!age) return;
  const seconds = Math.max(0, Math.round((Date.now() - Number(age.dataset.now)) / 1000));
  age.textContent = failures ? `no answer for ${seconds} s` : "live";
  age.classList.toggle("stale", failures > 0);
}

async function renew() {
  try {
    const answer = await fetch("/live", { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const top = document.querySelector(".scroll")?.scrollTop ?? 0;
    live.innerHTML = await answer.text();
    const scroll = document.querySelector(".scroll");
    if (scroll) scroll.scrollTop = top;
    failures = 0;
  } catch {
    failures += 1;
  }
  showAge();
}

showAge();
setInterval(() => { if (!document.hidden) renew(); }, 2000);
