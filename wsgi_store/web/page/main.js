// @ts-check
import { offerLanguages } from "./languages.js";
import { apply } from "./text.js";

apply(document);
offerLanguages(() => {});
