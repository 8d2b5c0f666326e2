"use strict";
// Keeps #live up to date with server-sent events. Without this script the pages work, but do not update.
(() => {
  const live = document.getElementById("live");
  const said = document.getElementById("connection");
  const button = document.getElementById("pause");
  const key = "promoter-ui-paused";
  let source = null;
  let paused = sessionStorage.getItem(key) === "yes";

  function say(text) {
    if (said.textContent !== text) said.textContent = text;
  }

  // Change `old` into `now` in place, so that the focus, selected text and open details stay.
  function patch(old, now) {
    if (old.nodeType !== now.nodeType || old.nodeName !== now.nodeName) {
      old.replaceWith(document.importNode(now, true));
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== now.nodeValue) old.nodeValue = now.nodeValue;
      return;
    }
    for (const { name } of [...old.attributes]) {
      if (!now.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
    for (const { name, value } of now.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    children(old, now);
  }

  const keyOf = (node) => (node.dataset && node.dataset.key !== undefined ? node.dataset.key : null);
  const isSpace = (node) => node.nodeType === Node.TEXT_NODE && !node.nodeValue.trim();

  function nextOf(node) {
    while (node && isSpace(node)) node = node.nextSibling;
    return node;
  }

  // Elements with a key are kept even if they move. Others are kept while the element at their position is of the same kind.
  function children(old, now) {
    const wanted = [...now.childNodes].filter((node) => !isSpace(node));
    const keys = new Set(wanted.map(keyOf));
    const known = new Map([...old.children].filter((child) => keyOf(child) !== null).map((c) => [keyOf(c), c]));
    let at = nextOf(old.firstChild);
    for (const next of wanted) {
      while (at && keyOf(at) !== null && !keys.has(keyOf(at))) {
        const gone = at;
        at = nextOf(at.nextSibling);
        gone.remove();
      }
      const key = keyOf(next);
      let same = key !== null ? known.get(key) : null;
      if (key === null && at && keyOf(at) === null && at.nodeName === next.nodeName) same = at;
      if (!same) {
        old.insertBefore(document.importNode(next, true), at);
      } else {
        if (same === at) at = nextOf(at.nextSibling);
        else old.insertBefore(same, at);
        patch(same, next);
      }
    }
    while (at) {
      const gone = at;
      at = nextOf(at.nextSibling);
      gone.remove();
    }
  }

  function stop() {
    if (source) source.close();
    source = null;
  }

  function start() {
    stop();
    if (paused || document.hidden) return;
    source = new EventSource(live.dataset.events);
    source.onopen = () => say("live");
    source.onmessage = (event) => {
      const page = new DOMParser().parseFromString(JSON.parse(event.data), "text/html");
      children(live, page.body);
      say("live");
    };
    source.addEventListener("again", start);
    source.onerror = () => {
      say(source && source.readyState === EventSource.CLOSED ? "not live: reload the page" : "no connection, retrying");
    };
  }

  function show() {
    button.textContent = paused ? "Resume updates" : "Pause updates";
    if (paused) say("paused");
  }

  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    sessionStorage.setItem(key, paused ? "yes" : "no");
    show();
    start();
  });
  document.addEventListener("visibilitychange", start);
  show();
  start();
})();
