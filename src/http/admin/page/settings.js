// Every setting of this process: what holds, and where it comes from. Secrets are set or not.

import { get } from "./api.js";
import { h } from "./dom.js";
import { known } from "./format.js";
import { badge, fill, heading, table } from "./parts.js";

export function openSettings() {
  const place = h("div", { class: "results" });
  const only = h("input", { id: "only-set", type: "checkbox", onchange: () => show() });
  let found = null;
  const show = () => fill(place, async () => sections((found ??= await get("/api/settings")), only.checked));
  show();
  return {
    title: "Settings",
    element: h(
      "div",
      { class: "page" },
      heading("Settings", {
        note: "Of this process, as read at its start. Secrets and addresses of services are never shown.",
        actions: h("label", { class: "choice", for: "only-set" }, only, "Only those that are set"),
      }),
      place,
    ),
  };
}

function sections({ local, settings }, onlySet) {
  const shown = settings.filter((setting) => setting.set || !onlySet);
  const names = [...new Set(shown.map(({ section }) => section))];
  return [
    local && h("p", {}, "Local mode: no secret is configured, so the process works with its own, of the data folder."),
    !names.length && h("p", { class: "faint" }, "Nothing is set: every value is the default."),
    names.map((name, at) =>
      h(
        "section",
        { "aria-labelledby": `settings-${at}` },
        h("h2", { id: `settings-${at}` }, name),
        table(
          `Settings: ${name}`,
          [
            ["Name", (setting) => h("div", {}, h("code", {}, setting.name), h("p", { class: "faint" }, setting.help)), "setting"],
            ["Value", value, "value"],
            ["From", from, "value"],
          ],
          shown.filter(({ section }) => section === name),
          "settings",
        ),
      ),
    ),
  ];
}

function value(setting) {
  if (setting.secret) return badge(setting.set ? "healthy" : null, setting.set ? "set" : "not set");
  if (known(setting.value)) return h("code", {}, setting.value);
  return h("span", { class: "faint" }, setting.derived ?? "not set");
}

const from = ({ origin, file, set }) =>
  h("span", { class: set ? null : "faint" }, origin, file && [", in ", h("code", {}, file)]);
