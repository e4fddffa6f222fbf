// The door: asks for the admin token and tries it before it is kept for good.

import { ApiError, get } from "./api.js";
import { h, say } from "./dom.js";
import { forget, keep } from "./session.js";

/** `why` is what to say first; `enter` is called once a token was taken. */
export function openLogin(why, enter) {
  const token = h("input", {
    id: "token",
    type: "password",
    autocomplete: "current-password",
    required: true,
    spellcheck: "false",
  });
  const said = h("p", { class: "said bad", role: "alert" }, why ?? "");
  const button = h("button", { class: "primary", type: "submit" }, "Sign in");
  const form = h("form", { onsubmit: submit }, h("label", { for: "token" }, "Admin token"), token, button, said);

  async function submit(event) {
    event.preventDefault();
    button.disabled = true;
    say(said, "");
    keep(token.value.trim());
    try {
      await get("/api/status");
      enter();
    } catch (error) {
      forget();
      const isRefusal = error instanceof ApiError && error.status === 401;
      say(said, isRefusal ? "That token is not accepted." : error.message);
      token.select();
    } finally {
      button.disabled = false;
    }
  }

  return {
    title: "Sign in",
    element: h(
      "div",
      { class: "login" },
      h("img", { src: "/assets/mark.svg", alt: "", width: 40, height: 40 }),
      h("h1", {}, "orderstream"),
      form,
      h(
        "p",
        { class: "faint" },
        "It is the value of ",
        h("code", {}, "ORDERSTREAM_ADMIN_TOKEN"),
        ". In local mode the start-up lines hold a link that signs you in. It stays in this tab alone.",
      ),
      h("p", { class: "faint" }, h("a", { href: "/docs" }, "API reference")),
    ),
  };
}
